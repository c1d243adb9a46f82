"""How large features are: what batches are formed by, in arrays instead of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ptv2_cli.inputs.features import Feature

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FeatureSizes:
    """The sizes of F features."""

    lengths: Indices
    """Tokens of each feature [F]; of a question, those of its longest choice."""
    tasks: Indices
    """Which of several tasks each feature belongs to [F]."""
    inputs: Indices
    """Inputs of each feature [F]: 1, or the choices of a question."""

    @classmethod
    def of(cls, features: Sequence[Feature]) -> FeatureSizes:
        """The sizes of features; of those that lie in arrays no feature is looked at."""
        lengths = getattr(features, "lengths", None)
        if lengths is not None:
            tasks, first = getattr(features, "tasks", None), getattr(features, "choices", None)
            return cls(
                np.asarray(lengths, np.int64),
                np.zeros(len(features), np.int64) if tasks is None else np.asarray(tasks, np.int64),
                np.ones(len(features), np.int64) if first is None else np.diff(first),
            )
        count = len(features)
        return cls(
            np.fromiter((len(item.input_ids) for item in features), np.int64, count),
            np.fromiter((item.task for item in features), np.int64, count),
            np.fromiter((len(item.inputs) for item in features), np.int64, count),
        )

    def longest_first(self) -> Indices:
        """Indices of the features, task by task, longest first, equal ones in their order."""
        return np.lexsort((-self.lengths, self.tasks))

    def cut(self, order: Indices, tokens: int, prompt: int) -> Iterator[Indices]:
        """Features of one task, longest first, in batches of at most so many padded tokens.

        A batch has one feature at least.

        Args:
            order: indices of the features.
            tokens: padded tokens of a batch, those of the prompt included.
            prompt: tokens that each input has besides its own.
        """
        lengths = self.lengths[order] + prompt
        before = np.concatenate([[0], np.cumsum(self.inputs[order])])
        start = 0
        while start < len(order):
            room = tokens // int(lengths[start])
            end = int(np.searchsorted(before, before[start] + room, side="right")) - 1
            end = max(end, start + 1)
            yield order[start:end]
            start = end
