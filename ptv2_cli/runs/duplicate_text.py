"""Rows with equal text: what a model can memorize instead of learning.

Case, white space and the way Unicode composes a character (NFC) make no difference: an uncased
tokenizer makes the same tokens of such texts.
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
twenty Chinese characters. Rows that have nothing else in common share shorter ones ("Yes.")."""
COMMON = 0.1
"""Share of rows from which a text is no passage but an instruction that all its rows have."""
FEW = 10
"""Rows that may share a passage however few rows there are."""
MOSTLY = 0.5
"""Share of a split's rows in train from which its scores say nothing about new text."""


@dataclass(frozen=True, slots=True)
class TextHashes:
    """A hash of 16 bytes for each text of a row."""

    whole: bytes
    """Everything that the model reads of the row."""
    origin: bytes | None
    """What its task shares between rows by design; see Task.origin."""
    texts: dict[str, bytes]
    """Column -> its text, if it is long or the origin."""

    def shareable(self, *, long: bool) -> Iterator[bytes]:
        """The hashes that tie it to other rows; `long`: those of long texts too."""
        yield self.whole
        if long:
            yield from self.texts.values()
        elif self.origin is not None:
            yield self.origin


def hash_texts(task: Task, rows: Sequence[Row]) -> list[TextHashes]:
    """The hashes of each row's texts."""
    return [_hash_row(task.part_of(row), row) for row in rows]


def group_by_text(hashes: Sequence[TextHashes], *, long: bool) -> list[list[int]]:
    """Row indices in groups: no two groups share a text. Groups and rows keep the rows' order.

    A row of a group shares a text with some other row of it; with `long` a long text of one column
    is enough.
    """
    common = _common(hashes) if long else frozenset()
    parent = list(range(len(hashes)))  # union-find

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    first_with: dict[bytes, int] = {}
    for index, row in enumerate(hashes):
        for text in row.shareable(long=long):
            if text in common:
                continue
            one, other = sorted((root(index), root(first_with.setdefault(text, index))))
            parent[other] = one
    groups: dict[int, list[int]] = {}
    for index in range(len(hashes)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def overlap_warnings(
    task: Task,
    split: str,
    train: tuple[Sequence[Row], Sequence[TextHashes]],
    evaluated: tuple[Sequence[Row], Sequence[TextHashes]],
) -> list[str]:
    """A line for each task some of whose rows in `split` are in train, in whole or by a text.

    With several tasks also a line for each pair of which one is evaluated on what the other trains
    on. `train` and `evaluated` are rows and their hashes.
    """
    train_hashes = _by_task(task, *train)
    lines: list[str] = []
    for name, hashes in _by_task(task, *evaluated).items():
        rows = f"{split} rows" if name is None else f"{split} rows of {name}"
        lines += _overlap(rows, train_hashes.get(name, []), hashes)
        for other, others in train_hashes.items():
            shared = len(_in_train(others, hashes)) if other != name else 0
            if shared:
                lines.append(
                    f"{shared} of {len(hashes)} rows that {name} is evaluated on are in the train "
                    f"set of {other}: its scores mean less"
                )
    return lines


def _overlap(
    rows: str, train: Sequence[TextHashes], evaluated: Sequence[TextHashes]
) -> Iterator[str]:
    """What to warn about for one task: nothing, or one line."""
    whole = _in_train(train, evaluated)
    train_texts = {text for row in train for text in row.texts.values()} - _common(train)
    by_column: Counter[str] = Counter()
    sharing = 0
    for index, row in enumerate(evaluated):
        columns = [name for name, text in row.texts.items() if text in train_texts]
        if columns and index not in whole:
            by_column.update(columns)
            sharing += 1
    total = len(evaluated)
    if len(whole) >= MOSTLY * total:
        yield (
            f"{len(whole)} of {total} {rows} are in train word for word: the scores show what was "
            "memorized, not what was learned; evaluate on rows that are not in train"
        )
        return
    counts = []
    if whole:
        share = f"{len(whole) / total:.1%}"
        counts.append(f"{len(whole)} of {total} {rows} ({share}) are in train word for word")
    if sharing:
        subject = f"{sharing} more" if whole else f"{sharing} of {total} {rows}"
        columns = [f"{name} {count}" for name, count in by_column.most_common()]
        counts.append(
            f"{subject} ({sharing / total:.1%}) share a long text with a train row: "
            f"{', '.join(columns)}"
        )
    if counts:
        yield "; ".join(counts)


def _in_train(train: Sequence[TextHashes], evaluated: Sequence[TextHashes]) -> set[int]:
    """Indices of the evaluated rows that are in train word for word."""
    known = {row.whole for row in train}
    return {index for index, row in enumerate(evaluated) if row.whole in known}


def _common(hashes: Sequence[TextHashes]) -> frozenset[bytes]:
    """Texts that so many rows have that they are no passages."""
    counts = Counter(text for row in hashes for text in row.texts.values())
    most = max(FEW, COMMON * len(hashes))
    origins = {row.origin for row in hashes}
    return frozenset(text for text, count in counts.items() if count > most and text not in origins)


def _by_task(
    task: Task, rows: Sequence[Row], hashes: Sequence[TextHashes]
) -> dict[str | None, list[TextHashes]]:
    """The hashes of each task's rows, by its name; None for a single task."""
    by_task: dict[str | None, list[TextHashes]] = {}
    for row, hashed in zip(rows, hashes, strict=True):
        by_task.setdefault(task_of_row(row) if task.parts else None, []).append(hashed)
    return by_task


def _hash_row(task: Task, row: Row) -> TextHashes:
    whole = "\0".join(map(str, task.content(row)))
    texts = {
        column: _hash(text)
        for column, text in task.texts_by_column(row).items()
        if column == task.origin or (text != whole and len(text.encode(errors="replace")) >= LONG)
    }
    return TextHashes(_hash(whole), texts.get(task.origin or ""), texts)


def _hash(text: str) -> bytes:
    plain = unicodedata.normalize("NFC", " ".join(text.split())).casefold()
    return hashlib.blake2b(plain.encode(errors="replace"), digest_size=16).digest()
