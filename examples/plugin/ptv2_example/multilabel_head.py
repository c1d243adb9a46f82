"""`head: multilabel`: any number of classes for a whole input."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.heads.base import HeadContext, LabelledBatch, Output
from ptv2_cli.heads.pooled import PooledHead


class MultiLabelHead(PooledHead):
    """Binary cross entropy over C classes on one pooled vector of each row."""

    kind = "multilabel"

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context, context.classes)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `probabilities` [B, C]. Rows whose labels are NaN have none."""
        logits = self.logits(self.pool(hidden, batch))
        probabilities = {"probabilities": logits.sigmoid()}
        if batch.labels is None:
            return Output(None, probabilities)
        known = ~batch.labels.isnan()
        losses = F.binary_cross_entropy_with_logits(
            logits, batch.labels.masked_fill(~known, 0.0), weight=known.float(), reduction="sum"
        )
        return Output(losses / known.sum().clamp(min=1), probabilities)
