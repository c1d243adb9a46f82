"""One number for a whole input."""

from __future__ import annotations

from torch import Tensor

from ptv2_cli.heads.base import HeadContext, LabelledBatch, Output
from ptv2_cli.heads.pooled import PooledHead


class RegressionHead(PooledHead):
    """Mean squared error of one output on one pooled vector of each row."""

    kind = "regression"

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context, 1)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `value` [B]. Rows whose label is NaN have none and do not count."""
        value = self.logits(self.pool(hidden, batch)).squeeze(-1)
        if batch.labels is None:
            return Output(None, {"value": value})
        known = ~batch.labels.isnan()
        # Zeroed on both sides, for NaN times zero would still be NaN in the gradient.
        errors = value.masked_fill(~known, 0.0) - batch.labels.masked_fill(~known, 0.0)
        return Output(errors.square().sum() / known.sum().clamp(min=1), {"value": value})
