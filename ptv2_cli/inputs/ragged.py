"""Lists of different lengths, one after another in one array."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Ragged:
    """R lists with N values in all."""

    values: npt.NDArray[Any]
    """[N], or [N, 2] for pairs."""
    starts: npt.NDArray[np.int64]
    """[R + 1]: where each list begins; the last is N."""

    @classmethod
    def of(cls, lists: Iterable[Sequence[Any]], dtype: npt.DTypeLike = np.int32) -> Ragged:
        """The same lists, copied.

        Raises:
            OverflowError: a number that `dtype` does not hold.
        """
        held = list(lists)
        lengths = np.fromiter(map(len, held), np.int64, len(held))
        starts = bounds(lengths)
        flat = chain.from_iterable(held)
        return cls(np.fromiter(flat, np.dtype(dtype), int(starts[-1])), starts)

    @classmethod
    def empty_lists(cls, count: int) -> Ragged:
        """As many lists without a value."""
        return cls(np.empty(0, np.int32), np.zeros(count + 1, np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """The values of one list, not copied."""
        return self.values[self.starts[index] : self.starts[index + 1]]

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Values of each list [R]."""
        return np.diff(self.starts)

    def take(self, indices: Ints) -> Ragged:
        """The lists of these indices, in their order."""
        return self.cut(self.starts[indices], self.lengths[indices])

    def first(self, counts: Ints) -> Ragged:
        """The first `counts` [R] values of each list."""
        if bool((counts == self.lengths).all()):
            return self
        return self.cut(self.starts[:-1], counts)

    def cut(self, begins: Ints, lengths: Ints) -> Ragged:
        """Lists of `lengths` values each, from the places `begins` of all values on."""
        return Ragged(self.values[places(begins, lengths)], bounds(lengths))

    def regrouped(self, counts: Ints) -> Ragged:
        """Longer lists, each of the next `counts` of these."""
        return Ragged(self.values, self.starts[bounds(counts)])


def bounds(lengths: Ints) -> npt.NDArray[np.int64]:
    """Where lists of these lengths [R] begin and the last ends [R + 1]."""
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends


def places(begins: Ints, lengths: Ints) -> npt.NDArray[np.int64]:
    """begin, begin + 1, ... of each range of `lengths` places, one range after another."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(begins - (ends - lengths), lengths) + np.arange(total, dtype=np.int64)


def joined(parts: Sequence[Ragged]) -> Ragged:
    """List by list the values of each part: all parts have as many lists."""
    lengths = np.sum([part.lengths for part in parts], axis=0)
    starts = bounds(lengths)
    values = np.empty(int(starts[-1]), parts[0].values.dtype)
    begins = starts[:-1]
    for part in parts:
        values[places(begins, part.lengths)] = part.values
        begins = begins + part.lengths
    return Ragged(values, starts)
