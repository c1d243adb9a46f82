"""Tokens drawn for the rows of a batch, the same for a row whatever stands beside it.

transformers draws all rows of a batch from one generator, so that a row's text would depend on the
others. Here each row has its own, seeded by the run's seed and the row's own text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ptv2_cli.backbones.sites import PlainBatch
from ptv2_cli.rng import derive


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn, by transformers' names; None: as without it."""

    seed: int
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    def processors(self, batch: PlainBatch) -> LogitsProcessorList:
        """What makes the likeliest token of each step the one that is drawn."""
        made = LogitsProcessorList()
        if self.temperature is not None:
            made.append(TemperatureLogitsWarper(self.temperature))
        if self.top_k is not None:
            made.append(TopKLogitsWarper(self.top_k))
        if self.top_p is not None:
            made.append(TopPLogitsWarper(self.top_p))
        made.append(_Draw([self._seed(*row) for row in _rows(batch)]))
        return made

    def _seed(self, ids: list[int], mask: list[int]) -> int:
        own = [token for token, is_text in zip(ids, mask, strict=True) if is_text]
        return derive(self.seed, f"generate/{own}")


def _rows(batch: PlainBatch) -> Sequence[tuple[list[int], list[int]]]:
    masks = batch.attention_mask.tolist()
    return list(zip(batch.input_ids.tolist(), masks, strict=True))


class _Draw:
    """Draws one token for each row, and leaves only that possible."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Log probabilities [B, V] -> 0 for the token that is drawn, else minus infinity."""
        draws = [torch.rand((), generator=own, dtype=torch.float64) for own in self._generators]
        shares = scores.double().softmax(dim=-1).cumsum(dim=-1)
        # The sum of all is not exactly 1; a token of no probability is never the first beyond.
        points = torch.stack(draws).to(scores.device)[:, None] * shares[:, -1:]
        drawn = torch.searchsorted(shares, points, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)
