"""Hashes of the texts of many rows in flat arrays, and which of them are equal.

Case, white space and the way Unicode composes a character (NFC) make no difference: an uncased
tokenizer makes the same tokens of such texts.
"""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptv2_cli.data.row_store import once
from ptv2_cli.data.rows import Row
from ptv2_cli.tasks.base import Task

Hashes = NDArray[np.uint64]
"""[n, 2], two halves of 64 bits: no two texts that differ have ever had an equal one."""
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
LONG = 60
"""UTF-8 bytes from which the text of one column counts by itself: about ten English words or
twenty Chinese characters. Rows that have nothing else in common share shorter ones ("Yes.")."""
COMMON = 0.1
"""Share of rows from which a text is no passage but an instruction that all its rows have."""
FEW = 10
"""Rows that may share a passage however few rows there are."""
_AT_ONCE = 1 << 16
"""Hashes that are looked up at once."""


@dataclass(frozen=True, eq=False)
class TextHashes:
    """Hashes of the texts of n rows, k of which count by themselves."""

    whole: Hashes
    """[n, 2]: everything that the model reads of each row."""
    texts: Hashes
    """[k, 2]: the texts that are long or an origin, in the order of rows and columns."""
    rows: Indices
    """[k]: the row of each of `texts`."""
    columns: Indices
    """[k]: its column, by its index in `names`."""
    origin: Mask
    """[k]: whether its task shares it between rows by design; see Task.origin."""
    names: tuple[str, ...]
    """Of columns."""

    def __len__(self) -> int:
        return len(self.whole)

    def take(self, mask: Mask) -> TextHashes:
        """Those of the rows [n] where the mask is true."""
        kept = mask[self.rows]
        rows = (np.cumsum(mask) - 1)[self.rows[kept]]
        columns, origin = self.columns[kept], self.origin[kept]
        return TextHashes(self.whole[mask], self.texts[kept], rows, columns, origin, self.names)

    def common(self) -> Hashes:
        """[c, 2]: texts that so many rows have that they are no passages; never an origin."""
        most = int(max(FEW, COMMON * len(self)))
        firsts = np.sort(self.texts[:, 0])
        frequent = np.unique(firsts[:-most][firsts[most:] == firsts[:-most]])
        candidates = self.texts[_among(self.texts[:, 0], frequent)]
        texts, counts = np.unique(candidates, axis=0, return_counts=True)
        texts = texts[counts > most]
        return texts[~is_in(texts, self.texts[self.origin])]


def text_hashes(task: Task, rows: Sequence[Row]) -> TextHashes:
    """The hashes of each row's texts; those of stored rows are kept with them."""
    return once(rows, ("text hashes", task.columns, task.origin), lambda: _hash_rows(task, rows))


def _hash_rows(task: Task, rows: Sequence[Row]) -> TextHashes:
    whole, texts = bytearray(), bytearray()
    places, columns, origin = array("q"), array("q"), array("b")
    names: dict[str, int] = {}
    for index, row in enumerate(rows):
        part = task.part_of(row)
        everything = "\0".join(map(str, part.content(row)))
        whole += _hash(everything)
        for column, text in part.texts_by_column(row).items():
            is_origin = column == part.origin
            if is_origin or (text != everything and _is_long(text)):
                texts += _hash(text)
                places.append(index)
                columns.append(names.setdefault(column, len(names)))
                origin.append(is_origin)
    return TextHashes(
        _halves(whole),
        _halves(texts),
        np.array(places, np.int64),
        np.array(columns, np.int64),
        np.array(origin, np.bool_),
        tuple(names),
    )


def _hash(text: str) -> bytes:
    plain = " ".join(text.split())
    if not plain.isascii():
        plain = unicodedata.normalize("NFC", plain)
    data = plain.casefold().encode(errors="replace")
    return hashlib.blake2b(data, digest_size=16).digest()


def _halves(data: bytearray) -> Hashes:
    return np.frombuffer(data, np.uint64).reshape(-1, 2)


def _is_long(text: str) -> bool:
    if len(text) >= LONG or text.isascii():
        return len(text) >= LONG
    return len(text.encode(errors="replace")) >= LONG


def is_in(some: Hashes, others: Hashes) -> Mask:
    """[n]: which of `some` [n, 2] are among `others` [m, 2].

    The first halves leave few candidates, in little memory; these are compared in full.
    """
    if len(some) < len(others):  # sort the fewer
        others = others[_among(others[:, 0], some[:, 0])]
    near = _among(some[:, 0], others[:, 0])
    candidates = some[near]
    known = set(map(bytes, others[_among(others[:, 0], candidates[:, 0])]))
    near[near] = [bytes(each) in known for each in candidates]
    return near


def repeated(hashes: Hashes) -> Indices:
    """The indices of all that occur more than once; a few more are possible."""
    firsts = np.sort(hashes[:, 0])
    return np.flatnonzero(_among(hashes[:, 0], firsts[1:][firsts[1:] == firsts[:-1]]))


def _among(some: NDArray[Any], others: NDArray[Any]) -> Mask:
    """As numpy.isin, in little memory beside a sorted copy of `others`."""
    if not len(others):
        return np.zeros(len(some), bool)
    ordered = np.unique(others)

    def parts() -> Iterator[Mask]:
        for first in range(0, len(some), _AT_ONCE):
            part = some[first : first + _AT_ONCE]
            places = np.searchsorted(ordered, part)
            yield ordered[np.minimum(places, len(ordered) - 1)] == part

    return np.concatenate([np.zeros(0, bool), *parts()])
