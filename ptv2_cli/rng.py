"""Random draws that belong to one trial: a generator for each (seed, purpose)."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


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


class SeededDropout(nn.Module):
    """Dropout whose masks come from the trial's own generator, not from the global one.

    The generator lives on the device of its first input; its state is saved with checkpoints.
    """

    def __init__(self, probability: float, seed: int, purpose: str) -> None:
        super().__init__()
        self.probability = probability
        self._seed = derive(seed, purpose)
        self._generator: torch.Generator | None = None
        self._pending: torch.Tensor | None = None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Zero each value with `probability` and rescale the rest; identity in eval mode."""
        if not self.training or self.probability == 0.0:
            return inputs
        keep = 1.0 - self.probability
        mask = torch.empty_like(inputs).bernoulli_(keep, generator=self._source(inputs.device))
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
