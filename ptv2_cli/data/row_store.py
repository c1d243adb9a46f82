"""Rows in one flat buffer: a million rows take little more memory than their texts.

A Python dict of two short texts and its `SourceRow` take some 800 bytes. Here they take their
characters, 8 bytes for the place where they begin, and about 15 others. A row is made anew each
time that somebody asks for it.
"""

from __future__ import annotations

import hashlib
import marshal
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from ptv2_cli.data.rows import Row, SourceRow, source_of

T = TypeVar("T")
_ATOMS = frozenset({str, int, float, bool, type(None)})
_DEEPEST = 100
"""Levels of lists and dicts that are stored flat; `marshal` itself would refuse 2,000."""
_AT_ONCE = 4096
"""Rows whose places are Python integers at the same time."""
_WHOLE = -1
"""Stands for the number of a shape where a row is kept as it is."""


@dataclass(frozen=True)
class _Shape:
    """What rows with the same columns have in common; each shape is stored once."""

    columns: tuple[str, ...]
    """Of the row, under the names that its task has."""
    source: tuple[str, ...] | None
    """Of its file; None: the row is no SourceRow."""
    task: str | None
    picks: tuple[int, ...]
    """Which of the stored values each column has. The values of the file come first. A value that
    the row took over from the file is stored once."""
    aligned: bool
    """Whether the columns have the stored values in order."""

    def place(self, column: str, *, of_source: bool) -> int | None:
        """Which of the stored values a column has; None if there is no such column."""
        if of_source and self.source is not None:
            return self.source.index(column) if column in self.source else None
        return self.picks[self.columns.index(column)] if column in self.columns else None

    def row(self, values: Sequence[Any]) -> Row:
        """The row that has these values."""
        own = values if self.aligned else [values[pick] for pick in self.picks]
        row = zip(self.columns, own, strict=False)
        return dict(row) if self.source is None else _StoredRow(row, self, values)


class _StoredRow(SourceRow):
    """A SourceRow that makes its source when it is read, which most passes over rows never do."""

    __slots__ = ("_shape", "_values")

    def __init__(
        self, row: Iterable[tuple[str, Any]], shape: _Shape, values: Sequence[Any]
    ) -> None:
        dict.__init__(self, row)
        self._shape = shape
        self._values = values

    @property
    def source(self) -> Mapping[str, Any]:  # type: ignore[override]
        return dict(zip(self._shape.source or (), self._values, strict=False))

    @property
    def task(self) -> str | None:  # type: ignore[override]
        return self._shape.task


class RowStore(Sequence[Row]):
    """Rows that are read only: what somebody changes in a row that it gives is not kept.

    A slice, and `take`, share the buffer. Rows with other values than JSON has are kept whole.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """Store rows one after another, so that a stream of them needs the memory of one."""
        self._buffer, starts = bytearray(), array("q")
        self._shapes: list[_Shape] = []
        self._whole: list[Row] = []
        known: dict[tuple[Any, ...], int] = {}
        for row in rows:
            starts.append(len(self._buffer))
            self._buffer += self._packed(row, known)
        self._starts: NDArray[np.int64] = np.frombuffer(starts, np.int64)
        self._memo: dict[Any, Any] = {}

    @classmethod
    def of(cls, rows: Sequence[Row]) -> RowStore:
        """The rows themselves if they are stored already, else a store of them."""
        return rows if isinstance(rows, RowStore) else cls(rows)

    def take(self, indices: NDArray[np.int64] | NDArray[np.bool_] | slice) -> RowStore:
        """The rows at some indices, in their order, or those where a mask is true."""
        other = RowStore()
        other._buffer, other._shapes, other._whole = self._buffer, self._shapes, self._whole
        other._starts = self._starts[indices]
        return other

    def once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What `make` gives, kept for the next call with an equal key: the rows never change."""
        if key not in self._memo:
            self._memo[key] = make()
        value: T = self._memo[key]
        return value

    def column(self, name: str, *, of_source: bool = False) -> Iterator[Any]:
        """See `column_values`; no row is made."""
        places = [shape.place(name, of_source=of_source) for shape in self._shapes]
        for shape, values in self._stored():
            if shape == _WHOLE:
                row = self._whole[values[0]]
                yield (source_of(row) if of_source else row).get(name)
            else:
                place = places[shape]
                yield None if place is None else values[place]

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer and of the places in it."""
        return len(self._buffer) + self._starts.nbytes

    @property
    def sha256(self) -> str | None:
        """Equal only for equal rows in equal order; None: some rows are kept whole."""
        if self._whole:
            return None
        shapes = repr(self._shapes).encode("utf-8", "surrogatepass")
        digest = hashlib.sha256()
        for part in (shapes, self._buffer, self._starts.tobytes()):
            digest.update(f"{len(part)} ".encode())
            digest.update(part)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Row]:
        shapes = self._shapes
        for shape, values in self._stored():
            yield shapes[shape].row(values) if shape != _WHOLE else self._whole[values[0]]

    def _stored(self) -> Iterator[tuple[int, list[Any]]]:
        """The number of each row's shape, and its values."""
        view, load = memoryview(self._buffer), marshal.loads
        for first in range(0, len(self), _AT_ONCE):
            for start in self._starts[first : first + _AT_ONCE].tolist():
                shape, *values = load(view[start:])
                yield shape, values

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> RowStore: ...
    def __getitem__(self, index: int | slice) -> Row | RowStore:
        if isinstance(index, slice):
            return self.take(index)
        shape, *values = marshal.loads(memoryview(self._buffer)[self._starts[index] :])
        return self._row(shape, values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RowStore({[*self[:3]]}{', ...' if len(self) > 3 else ''})"

    def _row(self, shape: int, values: Sequence[Any]) -> Row:
        return self._shapes[shape].row(values) if shape != _WHOLE else self._whole[values[0]]

    def _packed(self, row: Row, known: dict[tuple[Any, ...], int]) -> bytes:
        """The bytes of a row. `marshal` keeps every value exactly, and is fast; it never leaves
        the memory of this process.
        """
        source, task = (row.source, row.task) if isinstance(row, SourceRow) else (None, None)
        values = [] if source is None else [*source.values()]
        place = dict(zip(map(id, values), range(len(values)), strict=True))
        picks = tuple(map(place.get, map(id, row.values())))
        if None in picks:
            values += [
                value for value, pick in zip(row.values(), picks, strict=True) if pick is None
            ]
        key = (tuple(row), source if source is None else tuple(source), task, picks)
        shape = known.get(key)
        if shape is None:
            shape = known[key] = self._add_shape(*key)
        if shape == _WHOLE or not _is_plain(values, _DEEPEST):
            self._whole.append(row)
            return marshal.dumps((_WHOLE, len(self._whole) - 1))
        # Version 2 is the last without a table of objects that occur twice: faster for a few.
        return marshal.dumps((shape, *values), 2)

    def _add_shape(
        self,
        columns: tuple[str, ...],
        source: tuple[str, ...] | None,
        task: str | None,
        picks: tuple[int | None, ...],
    ) -> int:
        """The number of a new shape; `_WHOLE` if the names of columns are no plain texts."""
        if not _is_plain((*columns, *(source or ())), 0):
            return _WHOLE
        # Values that the source does not have follow its own.
        more = count(len(source or ()))
        places = tuple(next(more) if pick is None else pick for pick in picks)
        aligned = places == tuple(range(len(places)))
        self._shapes.append(_Shape(columns, source, task, places, aligned))
        return len(self._shapes) - 1


def column_values(rows: Sequence[Row], name: str, *, of_source: bool = False) -> Iterator[Any]:
    """What each row, or its source, has under `name`; None where it has nothing."""
    if isinstance(rows, RowStore):
        return rows.column(name, of_source=of_source)
    return ((source_of(row) if of_source else row).get(name) for row in rows)


def once(rows: Sequence[Row], key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """What `make` finds out about rows; about the same stored rows only once for each key."""
    return rows.once(key, make) if isinstance(rows, RowStore) else make()


def _is_plain(values: Collection[Any], depth: int) -> bool:
    """Whether all values are JSON's, of exactly its types, so that they come back as they were."""
    if _ATOMS.issuperset(map(type, values)):
        return True
    for value in values:
        kind = type(value)
        if kind in _ATOMS:
            continue
        if kind is dict and depth:
            plain = _is_plain(value, 0) and _is_plain(value.values(), depth - 1)
        else:
            plain = kind in (list, tuple) and depth > 0 and _is_plain(value, depth - 1)
        if not plain:
            return False
    return True
