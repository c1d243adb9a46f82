"""One tag for each word."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.heads.base import (
    IGNORE,
    Head,
    HeadContext,
    LabelledBatch,
    Output,
    weighted_cross_entropy,
)


class TokenHead(Head):
    """Cross entropy over C tags at every labelled position."""

    kind = "token"

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
