"""One class for a whole input."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.heads.base import Head, HeadContext, LabelledBatch, Output


class SequenceHead(Head):
    """Cross entropy over C classes on one pooled vector of each row."""

    kind = "sequence"

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context, context.classes)
        self.pooling = context.pooling
        self._pooler = context.pooler

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `probabilities` [B, C]."""
        logits = self.logits(self.pool(hidden, batch))
        loss = None if batch.labels is None else F.cross_entropy(logits, batch.labels)
        return Output(loss, {"probabilities": logits.softmax(dim=-1)})

    def pool(self, hidden: Tensor, batch: LabelledBatch) -> Tensor:
        """The vector of each row that is classified, [B, T, H] -> [B, H]."""
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        if batch.mask_at is not None:  # a template with {mask} is read there
            return hidden[rows, batch.mask_at]
        if self.pooling == "mean":
            weight = batch.attention_mask[..., None].to(hidden.dtype)
            return (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        if self.pooling == "last":
            positions = torch.arange(hidden.shape[1], device=hidden.device)
            return hidden[rows, (batch.attention_mask * positions).argmax(dim=1)]
        first = hidden[:, 0]
        return self._pooler(first) if self.pooling == "pooler" else first
