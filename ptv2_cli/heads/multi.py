"""A head for each of several tasks that train together."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from ptv2_cli.heads.base import Head, LabelledBatch, Output


class MultiHead(nn.Module):
    """Hands each batch, which is of one task, to that task's head."""

    def __init__(self, heads: Iterable[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """What the task's own head makes of hidden states [B, T, H]."""
        output: Output = self.heads[batch.task](hidden, batch)
        return output
