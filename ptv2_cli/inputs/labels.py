"""The labels of many features in flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ptv2_cli.inputs.features import Label
from ptv2_cli.inputs.ragged import Ints, Ragged


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of F features, all of one form."""

    values: npt.NDArray[Any]
    """[F] numbers, [F, 2] pairs, or the numbers of all lists [N]."""
    starts: npt.NDArray[np.int64] | None = None
    """Where labels are lists: where each begins, [F + 1]."""
    known: npt.NDArray[np.bool_] | None = None
    """[F]: whether the feature has a label; None: all have one."""

    @classmethod
    def of(cls, labels: Sequence[Label]) -> Labels | None:
        """The same labels in arrays; None, where no feature has one.

        Raises:
            TypeError: labels of different forms.
            OverflowError: a whole number of more than 32 bits.
        """
        given = [label for label in labels if label is not None]
        if not given:
            return None
        known = None
        if len(given) < len(labels):
            known = np.fromiter((label is not None for label in labels), np.bool_, len(labels))
        first = given[0]
        form = next((form for form in (tuple, list) if isinstance(first, form)), None)
        if any(
            isinstance(label, tuple | list) if form is None else not isinstance(label, form)
            for label in given
        ):
            raise TypeError("the labels of features are all numbers, all lists or all pairs")
        if form is list:
            lists: list[Any] = [[] if label is None else label for label in labels]
            real = any(isinstance(number, float) for label in lists for number in label)
            ragged = Ragged.of(lists, np.float64 if real else np.int32)
            return cls(ragged.values, ragged.starts, known)
        blank: Any = (0, 0) if form is tuple else 0
        filled: list[Any] = [blank if label is None else label for label in labels]
        real = any(isinstance(label, float) for label in given)
        return cls(np.array(filled, np.float64 if real else np.int32), None, known)

    def __getitem__(self, index: int) -> Label:
        if self.known is not None and not self.known[index]:
            return None
        if self.starts is not None:
            values: list[int] = self.values[self.starts[index] : self.starts[index + 1]].tolist()
            return values
        value = self.values[index].tolist()
        return tuple(value) if isinstance(value, list) else value

    def take(self, indices: Ints) -> Labels:
        """The labels of these features."""
        known = None if self.known is None else self.known[indices]
        if self.starts is None:
            return Labels(self.values[indices], None, known)
        lists = Ragged(self.values, self.starts).take(indices)
        return Labels(lists.values, lists.starts, known)
