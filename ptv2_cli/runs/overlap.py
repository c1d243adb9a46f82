"""Equal texts in two rows: what a model can remember where it should have learnt.

Texts are compared without regard to case, to white space and to how Unicode composes a character
(NFC): what an uncased tokenizer does not tell apart is equal here too.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ptv2_cli.data.rows import Row
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.multi import task_of_row

LONG = 60
"""UTF-8 bytes from which the text of one column counts by itself: about ten English words or
twenty Chinese characters. Shorter ones ("Yes.", a word) stand in rows that share nothing else."""
COMMON = 0.1
"""Share of rows from which a text is no passage but an instruction that all its rows have."""
FEW = 10
"""Rows that may share a passage however few rows there are."""
MOSTLY = 0.5
"""Share of a split's rows in train from which its scores say nothing about new text."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What a row's texts are known by: a hash of 16 bytes for each."""

    whole: bytes
    """All that the model reads of it."""
    origin: bytes | None
    """What its task shares between rows by design; see Task.origin."""
    texts: dict[str, bytes]
    """Column -> its text, where it is long or the origin."""

    def links(self, *, long: bool) -> Iterator[bytes]:
        """What it may have in common with other rows; `long`: long texts too."""
        yield self.whole
        if long:
            yield from self.texts.values()
        elif self.origin is not None:
            yield self.origin


def marks_of(task: Task, rows: Sequence[Row]) -> list[Marks]:
    """The marks of rows, in their order."""
    return [_marks(task.part_of(row), row) for row in rows]


def related(marks: Sequence[Marks], *, long: bool) -> list[list[int]]:
    """Indices of rows in groups that share no text with one another, in the order of the rows.

    Rows of a group share one with a neighbour; `long`: a long text of one column is enough.
    """
    common = _common(marks) if long else frozenset()
    leader = list(range(len(marks)))

    def first(index: int) -> int:
        while leader[index] != index:
            leader[index] = index = leader[leader[index]]
        return index

    seen: dict[bytes, int] = {}
    for index, own in enumerate(marks):
        for mark in own.links(long=long):
            if mark in common:
                continue
            one, other = sorted((first(index), first(seen.setdefault(mark, index))))
            leader[other] = one
    groups: dict[int, list[int]] = {}
    for index in range(len(marks)):
        groups.setdefault(first(index), []).append(index)
    return list(groups.values())


def overlaps(
    task: Task,
    split: str,
    train: tuple[Sequence[Row], Sequence[Marks]],
    asked: tuple[Sequence[Row], Sequence[Marks]],
) -> list[str]:
    """A line for each task of whose rows in `split` some stand in train, in whole or by a text.

    Of several tasks also for each pair of which one is evaluated on what the other trains on.
    `train` and `asked` are rows with their marks.
    """
    learnt = _by_task(task, *train)
    lines: list[str] = []
    for name, marks in _by_task(task, *asked).items():
        rows = f"{split} rows" if name is None else f"{split} rows of {name}"
        lines += _told(rows, split, learnt.get(name, []), marks)
        for other, others in learnt.items():
            shared = len(_repeated(others, marks)) if other != name else 0
            if shared:
                lines.append(
                    f"{shared} of {len(marks)} rows that {name} is evaluated on stand in the train "
                    f"set of {other}: its scores say less"
                )
    return lines


def _told(rows: str, split: str, train: Sequence[Marks], asked: Sequence[Marks]) -> Iterator[str]:
    """What is worth telling of one task: nothing, or one line."""
    whole = _repeated(train, asked)
    known = {mark for own in train for mark in own.texts.values()} - _common(train)
    by_column: Counter[str] = Counter()
    sharing = 0
    for index, own in enumerate(asked):
        columns = [name for name, mark in own.texts.items() if mark in known]
        if columns and index not in whole:
            by_column.update(columns)
            sharing += 1
    if len(whole) >= MOSTLY * len(asked):
        yield (
            f"{len(whole)} of {len(asked)} {rows} stand in train word for word: the scores tell "
            "what was remembered, not what was learnt; evaluate on rows that are not in train"
        )
        return
    named = ", ".join(f"{name} {count}" for name, count in by_column.most_common())
    counts = []
    if whole:
        share = f"{len(whole) / len(asked):.1%}"
        counts.append(f"{len(whole)} of {len(asked)} {rows} ({share}) stand in train word for word")
    if sharing:
        subject = f"{sharing} more" if whole else f"{sharing} of {len(asked)} {rows}"
        share = f"{sharing / len(asked):.1%}"
        counts.append(f"{subject} ({share}) share a long text with a train row: {named}")
    if counts:
        yield "; ".join(counts)


def _repeated(train: Sequence[Marks], asked: Sequence[Marks]) -> set[int]:
    """Indices of the asked rows that stand in train in whole."""
    known = {own.whole for own in train}
    return {index for index, own in enumerate(asked) if own.whole in known}


def _common(marks: Sequence[Marks]) -> frozenset[bytes]:
    """Texts that so many rows have that they are no passages."""
    counts = Counter(mark for own in marks for mark in own.texts.values())
    most = max(FEW, COMMON * len(marks))
    origins = {own.origin for own in marks}
    return frozenset(mark for mark, count in counts.items() if count > most and mark not in origins)


def _by_task(
    task: Task, rows: Sequence[Row], marks: Sequence[Marks]
) -> dict[str | None, list[Marks]]:
    """The marks of each task's rows, by its name; None where the task is one alone."""
    found: dict[str | None, list[Marks]] = {}
    for row, own in zip(rows, marks, strict=True):
        found.setdefault(task_of_row(row) if task.parts else None, []).append(own)
    return found


def _marks(task: Task, row: Row) -> Marks:
    whole = "\0".join(map(str, task.content(row)))
    texts = {
        column: _hash(text)
        for column, text in task.texts_by_column(row).items()
        if column == task.origin or (text != whole and len(text.encode(errors="replace")) >= LONG)
    }
    return Marks(_hash(whole), texts.get(task.origin or ""), texts)


def _hash(text: str) -> bytes:
    plain = unicodedata.normalize("NFC", " ".join(text.split())).casefold()
    return hashlib.blake2b(plain.encode(errors="replace"), digest_size=16).digest()
