"""The first and the last token of an answer."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.heads.base import Head, HeadContext, LabelledBatch, Output


class SpanHead(Head):
    """Two cross entropies over the T positions, averaged (BERT, arXiv 1810.04805, section 4.2)."""

    kind = "span"

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
