"""Averaged weights: the mean of what trains after each of a run's last steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class WeightAverage:
    """The mean of tensors over the last steps of a run, each step counting the same.

    With w_t the weights after step t of n and a share a, it is the mean of w_t over the last
    m = max(1, round(a n)) steps: stochastic weight averaging (arXiv 1803.05407) with a mean that
    begins late and is taken at every step (arXiv 2306.03241). It is a share of the run and no
    exponential mean, whose decay would have to be fitted to the number of steps: 0.999 looks back
    over 1,000 steps, which is more than a short run has.

    Until the mean begins it takes no memory; from then on 4 bytes for each value that trains.
    """

    def __init__(self, values: Sequence[Tensor], steps: int, share: float) -> None:
        self._values = values
        self._before = steps - max(1, round(share * steps))
        """Steps that do not count."""
        self._means: list[Tensor] = []

    def count(self, step: int) -> int:
        """How many steps the mean is over when so many have been taken; 0: none yet."""
        return max(0, step - self._before)

    def add(self, step: int) -> None:
        """Count the weights as they are after so many steps."""
        count = self.count(step)
        if count == 1:
            self._means = [value.detach().float().clone() for value in self._values]
        elif count:
            for mean, value in zip(self._means, self._values, strict=True):
                mean.lerp_(value.detach().float(), 1 / count)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the tensors hold their means; without any yet, they stay as they are."""
        trained = [value.data for value in self._values] if self._means else []
        try:
            # Storages are exchanged, not copied: nothing is rounded, and no third copy is needed.
            for value, mean in zip(self._values, self._means, strict=bool(self._means)):
                value.data = mean.to(value.dtype)
            yield
        finally:
            for value, own in zip(self._values, trained, strict=bool(trained)):
                value.data = own

    def state(self) -> dict[str, Tensor]:
        """The means by number."""
        return {str(number): mean for number, mean in enumerate(self._means)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self._means = [
            state[str(number)].to(value.device, torch.float32, copy=True)
            for number, value in enumerate(self._values)
            if state
        ]
