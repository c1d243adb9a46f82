"""One class for a whole input."""

from __future__ import annotations

from torch import Tensor

from ptv2_cli.heads.base import HeadContext, LabelledBatch, Output, cross_entropy
from ptv2_cli.heads.pooled import PooledHead


class SequenceHead(PooledHead):
    """Cross entropy over C classes on one pooled vector of each row."""

    kind = "sequence"

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context, context.classes)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `probabilities` [B, C]."""
        logits = self.logits(self.pool(hidden, batch))
        return Output(cross_entropy(logits, batch), {"probabilities": logits.softmax(dim=-1)})
