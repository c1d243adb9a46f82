"""Heads that read one vector of each input: classes, choices and numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.heads.base import Head, HeadContext, LabelledBatch, Output, cross_entropy


class PooledHead(Head):
    """A linear layer on one pooled vector of each row."""

    def __init__(self, context: HeadContext, outputs: int) -> None:
        super().__init__(context, outputs)
        self.pooling = context.pooling
        self._pooler = context.pooler

    def pool(self, hidden: Tensor, batch: LabelledBatch) -> Tensor:
        """The vector that the head reads of each row, [B, T, H] -> [B, H]."""
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


class SequenceHead(PooledHead):
    """Cross entropy over C classes on one pooled vector of each row."""

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context, context.classes)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `probabilities` [B, C]."""
        logits = self.logits(self.pool(hidden, batch))
        return Output(cross_entropy(logits, batch), {"probabilities": logits.softmax(dim=-1)})


class ChoiceHead(PooledHead):
    """Cross entropy over a question's choices, each scored by one output on its pooled vector.

    As in GPT (Radford et al. 2018, section 3.3) and BERT (arXiv 1810.04805, section 4.4).
    """

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context, 1)
        # A bias adds the same to every choice, which the softmax cancels.
        self.linear.register_parameter("bias", None)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `probabilities` [Q, C], 0 where a question has no such choice.

        Raises:
            ValueError: the batch has no choices.
        """
        if batch.choices is None:
            raise ValueError("the choice head needs a batch with choices")
        scores = self.logits(self.pool(hidden, batch)).squeeze(-1)
        missing = batch.choices < 0
        logits = scores[batch.choices.clamp(min=0)].masked_fill(missing, float("-inf"))
        loss = None if batch.labels is None else F.cross_entropy(logits, batch.labels)
        return Output(loss, {"probabilities": logits.softmax(dim=-1)})


class RegressionHead(PooledHead):
    """Mean squared error of one output on one pooled vector of each row."""

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context, 1)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `value` [B]. Rows whose label is NaN do not count."""
        value = self.logits(self.pool(hidden, batch)).squeeze(-1)
        if batch.labels is None:
            return Output(None, {"value": value})
        known = ~batch.labels.isnan()
        # Zeroed on both sides, for NaN times zero would still be NaN in the gradient.
        errors = value.masked_fill(~known, 0.0) - batch.labels.masked_fill(~known, 0.0)
        return Output(errors.square().sum() / known.sum().clamp(min=1), {"value": value})
