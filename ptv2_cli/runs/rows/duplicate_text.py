"""Rows with equal text: what a model can memorize instead of learning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ptv2_cli.data.rows import Row
from ptv2_cli.runs.rows.text_hashes import Indices, Mask, TextHashes, is_in, repeated, text_hashes
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.multi import task_of_row

MOSTLY = 0.5
"""Share of a split's rows in train from which its scores say nothing about new text."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows in g groups; groups are in the order of their first rows, the rows of each in order."""

    rows: Indices
    """[n]: the rows of the first group, then those of the second, and so on."""
    starts: Indices
    """[g + 1]: where each group begins in `rows`; at last n."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, group: int) -> Indices:
        return self.rows[self.starts[group] : self.starts[group + 1]]


def group_by_text(hashes: TextHashes, *, long: bool) -> Groups:
    """Rows in groups: no two groups share a text.

    A row of a group shares a text with some other row of it; with `long` a long text of one column
    is enough.
    """
    if long:
        chosen = ~is_in(hashes.texts, hashes.common())
        dropped = is_in(hashes.whole, hashes.common())
    else:
        chosen, dropped = hashes.origin, np.zeros(len(hashes), bool)
    texts = np.concatenate([hashes.whole[~dropped], hashes.texts[chosen]])
    rows = np.concatenate([np.flatnonzero(~dropped), hashes.rows[chosen]])
    parent = np.arange(len(hashes))  # union-find; most rows share no text and stay alone

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    first_with: dict[bytes, int] = {}
    for place in repeated(texts).tolist():
        row = int(rows[place])
        one, other = sorted((root(row), root(first_with.setdefault(bytes(texts[place]), row))))
        parent[other] = one
    for row in np.flatnonzero(parent != np.arange(len(parent))).tolist():
        parent[row] = root(row)
    # The root of a group is its first row.
    order = np.argsort(parent, kind="stable")
    starts = np.flatnonzero(np.diff(parent[order], prepend=-1))
    return Groups(order, np.append(starts, len(order)))


def overlap_warnings(
    task: Task, split: str, train: Sequence[Row], evaluated: Sequence[Row]
) -> list[str]:
    """A line for each task some of whose rows in `split` are in train, in whole or by a text.

    With several tasks also a line for each pair of which one is evaluated on what the other trains
    on.
    """
    train_hashes = _by_task(task, train)
    lines: list[str] = []
    for name, hashes in _by_task(task, evaluated).items():
        rows = f"{split} rows" if name is None else f"{split} rows of {name}"
        own = train_hashes.get(name)
        lines += _overlap(rows, own, hashes) if own is not None else ()
        for other, others in train_hashes.items():
            shared = int(is_in(hashes.whole, others.whole).sum()) if other != name else 0
            if shared:
                lines.append(
                    f"{shared} of {len(hashes)} rows that {name} is evaluated on are in the train "
                    f"set of {other}: its scores mean less"
                )
    return lines


def _overlap(rows: str, train: TextHashes, evaluated: TextHashes) -> Iterator[str]:
    """What to warn about for one task: nothing, or one line."""
    whole = is_in(evaluated.whole, train.whole)
    total, count = len(evaluated), int(whole.sum())
    if count >= MOSTLY * total:
        yield (
            f"{count} of {total} {rows} are in train word for word: the scores show what was "
            "memorized, not what was learned; evaluate on rows that are not in train"
        )
        return
    shared = is_in(evaluated.texts, train.texts) & ~whole[evaluated.rows]
    shared &= ~is_in(evaluated.texts, train.common())
    sharing = len(np.unique(evaluated.rows[shared]))
    counts = []
    if count:
        share = f"{count / total:.1%}"
        counts.append(f"{count} of {total} {rows} ({share}) are in train word for word")
    if sharing:
        subject = f"{sharing} more" if count else f"{sharing} of {total} {rows}"
        columns = [f"{name} {times}" for name, times in _by_column(evaluated, shared)]
        counts.append(
            f"{subject} ({sharing / total:.1%}) share a long text with a train row: "
            f"{', '.join(columns)}"
        )
    if counts:
        yield "; ".join(counts)


def _by_column(hashes: TextHashes, chosen: Mask) -> list[tuple[str, int]]:
    """Columns and how many of the chosen texts each has, the most frequent first."""
    columns, firsts, counts = np.unique(
        hashes.columns[chosen], return_index=True, return_counts=True
    )
    order = np.lexsort((firsts, -counts))
    return [(hashes.names[columns[place]], int(counts[place])) for place in order]


def _by_task(task: Task, rows: Sequence[Row]) -> dict[str | None, TextHashes]:
    """The hashes of each task's rows, by its name; None for a single task."""
    hashes = text_hashes(task, rows)
    if not task.parts:
        return {None: hashes}
    numbers: dict[str, int] = {}
    of_row = (numbers.setdefault(task_of_row(row), len(numbers)) for row in rows)
    places = np.fromiter(of_row, np.int64, len(rows))
    return {name: hashes.take(places == number) for name, number in numbers.items()}
