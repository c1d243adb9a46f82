"""Random draws that belong to one trial: a generator for each (seed, purpose)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

BACKBONE_DROPOUT = "dropout/backbone"
"""The purpose of the draws that the backbone's dropout needs."""


def derive(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose of a trial; purposes do not disturb one another."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded for one purpose of a trial."""
    return torch.Generator(device).manual_seed(derive(seed, purpose))


def normal_(tensor: torch.Tensor, std: float, source: torch.Generator) -> None:
    """Fill `tensor` in place from N(0, std)."""
    with torch.no_grad():
        tensor.normal_(0.0, std, generator=source)


@dataclass(frozen=True)
class RowShare:
    """The rows of a batch that one of several processes computes."""

    first: int
    count: int
    total: int
    """B of the whole batch."""


@dataclass(frozen=True)
class RowDraws:
    """What determines the backbone's dropout for one trial's rows of a forward pass."""

    seed: int
    """Of the trial and the purpose, see `derive`."""
    step: int
    batch: int
    """Number of the batch in its step, from 0."""
    rows: int
    """B, the trial's rows."""
    width: int
    """T of the trial's own batch, without the padding that other trials' batches need."""
    first: int = 0
    """Number of the first of the rows in its batch; other processes compute those before it."""

    def widened(self, columns: int) -> RowDraws:
        """The same with more columns, which prompt vectors among the inputs take."""
        return replace(self, width=self.width + columns)

    def keep(self, call: int, shape: tuple[int, ...], drop: int) -> npt.NDArray[np.bool_]:
        """Which values of one call of dropout stay, each with a chance of 1 - drop / 65536.

        `call` is the number of the call in the forward pass, from 0. The draws of different seeds,
        steps, batches and calls are independent. A row has the same draws whether its process
        computes the whole batch or a part of it.
        """
        count = int(np.prod(shape))
        # Its states come from a hash of all four numbers (numpy's SeedSequence).
        source = np.random.SFC64([self.seed, self.step, self.batch, call])
        skipped = 0
        if self.first and shape[0] in (self.rows, self.rows * self.width):
            whole, skipped = divmod(count // self.rows * self.first, 4)
            source.random_raw(whole, output=False)
        bits = source.random_raw((skipped + count + 3) // 4).view(np.uint16)
        keep: npt.NDArray[np.bool_] = bits[skipped : skipped + count] >= drop
        return keep.reshape(shape)


class SeededDropout(nn.Module):
    """Dropout whose masks come from the trial's own generator, not from the global one.

    The generator lives on the device of its first input; its state is saved with checkpoints.
    """

    share: RowShare | None = None
    """The rows that this process computes, where the inputs are rows of a batch; None: all."""

    def __init__(
        self, probability: float, seed: int, purpose: str, *, by_row: bool = False
    ) -> None:
        """Drop values with `probability`; `by_row`: the inputs are the rows of a batch [B, ...]."""
        super().__init__()
        self.probability = probability
        self.by_row = by_row
        self._seed = derive(seed, purpose)
        self._generator: torch.Generator | None = None
        self._pending: torch.Tensor | None = None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Zero each value with `probability` and rescale the rest; identity in eval mode."""
        if not self.training or self.probability == 0.0:
            return inputs
        keep = 1.0 - self.probability
        if self.share is None:
            mask = torch.empty_like(inputs)
        else:  # drawn for the whole batch, so that every row and the next draw stay the same
            mask = inputs.new_empty((self.share.total, *inputs.shape[1:]))
        mask.bernoulli_(keep, generator=self._source(inputs.device))
        if self.share is not None:
            mask = mask[self.share.first : self.share.first + self.share.count]
        return inputs * mask.div_(keep)

    def state(self) -> torch.Tensor | None:
        """The generator's state, None before its first draw."""
        return self._pending if self._generator is None else self._generator.get_state()

    def restore(self, state: torch.Tensor | None) -> None:
        """Go on from a state that `state()` gave."""
        self._generator, self._pending = None, state

    def _source(self, device: torch.device) -> torch.Generator:
        if self._generator is None:
            self._generator = torch.Generator(device).manual_seed(self._seed)
            if self._pending is not None:
                self._generator.set_state(self._pending)
        return self._generator
