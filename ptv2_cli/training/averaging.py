"""Averaged weights: the mean of the trained values over the last steps of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ptv2_cli.distributed.shard import is_shared


class WeightAverage:
    """The mean of tensors over the last steps of a run, with equal weights.

    With w_t the weights after step t of n and a share a, it is the mean of w_t over the last
    m = max(1, round(a n)) steps: stochastic weight averaging (arXiv 1803.05407) that starts late
    and averages at every step (arXiv 2306.03241). An exponential moving average would need a decay
    that fits the number of steps: 0.999 looks back over 1,000 steps, more than a short run has.

    The mean takes 4 bytes for each trained value from its first step on, and no memory before.
    """

    def __init__(self, values: Sequence[Tensor], steps: int, share: float) -> None:
        self._values = values
        self._before = steps - max(1, round(share * steps))
        """Number of steps before the mean starts."""
        self._means: list[Tensor] = []

    def count(self, step: int) -> int:
        """The number of averaged steps after `step` steps; 0: the mean has not started."""
        return max(0, step - self._before)

    def add(self, step: int) -> None:
        """Add the weights after `step` steps to the mean."""
        count = self.count(step)
        if count == 1:
            self._means = [value.detach().float().clone() for value in self._values]
        elif count:
            for mean, value in zip(self._means, self._values, strict=True):
                mean.lerp_(value.detach().float(), 1 / count)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the tensors by their means for a while; no change before the mean starts."""
        trained = [_kept(value) for value in self._values] if self._means else []
        try:
            for value, mean in zip(self._values, self._means, strict=bool(self._means)):
                _put(value, mean.to(value.dtype))
            yield
        finally:
            for value, own in zip(self._values, trained, strict=bool(trained)):
                _put(value, own)

    def state(self) -> dict[str, Tensor]:
        """The means, by the number of the tensor."""
        return {str(number): mean for number, mean in enumerate(self._means)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from the result of `state`."""
        self._means = [
            state[str(number)].to(value.device, torch.float32, copy=True)
            for number, value in enumerate(self._values)
            if state
        ]


def _kept(value: Tensor) -> Tensor:
    """What `_put` puts back later."""
    return value.detach().clone() if is_shared(value) else value.data


def _put(value: Tensor, new: Tensor) -> None:
    """Give a tensor other values.

    Storages are exchanged, not copied: nothing is rounded, and no third copy is needed. Parts of
    weights that processes share are copied, because they are gathered from where they lie.
    """
    if is_shared(value):
        value.detach().copy_(new)
    else:
        value.data = new
