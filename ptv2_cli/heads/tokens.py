"""Heads that read every token: tags and the ends of an answer."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.heads.base import (
    Head,
    HeadContext,
    LabelledBatch,
    Output,
    weighted_cross_entropy,
)
from ptv2_cli.kinds import IGNORE


class TokenHead(Head):
    """Cross entropy over C tags at every labelled position."""

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context, context.classes)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `probabilities` [B, T, C]."""
        logits = self.logits(hidden)
        loss = None
        if batch.labels is not None and batch.weights is not None:
            flat = (logits.flatten(0, 1), batch.labels.flatten(), batch.weights.flatten())
            loss = weighted_cross_entropy(*flat)
        elif batch.labels is not None:
            total = F.cross_entropy(
                logits.flatten(0, 1),
                batch.labels.flatten(),
                ignore_index=IGNORE,
                reduction="sum",
            )
            # A window may hold no word that is read in it: its mean would be NaN.
            loss = total / (batch.labels != IGNORE).sum().clamp(min=1)
        return Output(loss, {"probabilities": logits.softmax(dim=-1)})


class SpanHead(Head):
    """Two cross entropies over the T positions, averaged (BERT, arXiv 1810.04805, section 4.2)."""

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context, 2)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: logits `start` and `end` [B, T], -inf at padding."""
        logits = self.logits(hidden)
        hidden_away = (batch.attention_mask == 0)[..., None]
        start, end = logits.masked_fill(hidden_away, float("-inf")).unbind(dim=-1)
        loss = None
        if batch.labels is not None:
            first, last = batch.labels.unbind(dim=-1)
            loss = (F.cross_entropy(start, first) + F.cross_entropy(end, last)) / 2
        return Output(loss, {"start": start, "end": end})
