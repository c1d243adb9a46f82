"""The one vector that a head reads of a whole input."""

from __future__ import annotations

import torch
from torch import Tensor

from ptv2_cli.heads.base import Head, HeadContext, LabelledBatch


class PooledHead(Head):
    """A linear layer on one pooled vector of each row; subclasses say what its outputs mean."""

    def __init__(self, context: HeadContext, outputs: int) -> None:
        super().__init__(context, outputs)
        self.pooling = context.pooling
        self._pooler = context.pooler

    def pool(self, hidden: Tensor, batch: LabelledBatch) -> Tensor:
        """The vector of each row that is read, [B, T, H] -> [B, H]."""
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        if batch.mask_at is not None:  # a template with {mask} is read there
            return hidden[rows, batch.mask_at]
        if self.pooling == "mean":
            hidden = hidden.float()  # bf16 cannot even count the tokens of a long text
            weight = batch.attention_mask[..., None].to(hidden.dtype)
            return (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        if self.pooling == "last":
            positions = torch.arange(hidden.shape[1], device=hidden.device)
            return hidden[rows, (batch.attention_mask * positions).argmax(dim=1)]
        first = hidden[:, 0]
        return self._pooler(first) if self.pooling == "pooler" else first
