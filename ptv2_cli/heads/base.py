"""What every head is: hidden states to a loss and predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.kinds import IGNORE
from ptv2_cli.rng import SeededDropout, normal_

INIT_STD = 0.02
Pooling = Literal["pooler", "cls", "mean", "last", "mask"]


class LabelledBatch(Protocol):
    """What a head reads of a batch."""

    @property
    def attention_mask(self) -> Tensor:
        """1 for tokens, 0 for padding [B, T]."""

    @property
    def labels(self) -> Tensor | None:
        """[B] classes or numbers, [Q] indices of choices, [B, T] tags, [B, 2] answer ends, or the
        token that follows at each position [B, T] or of a decoder [B, U]."""

    @property
    def weights(self) -> Tensor | None:
        """How much each label counts in the loss, shaped as `labels`; None: all count the same."""

    @property
    def task(self) -> int:
        """Number of the batch's task, where several train together."""

    @property
    def mask_at(self) -> Tensor | None:
        """Position of the template's {mask} [B]."""

    @property
    def choices(self) -> Tensor | None:
        """Rows of B that are a question's choices [Q, C], -1 where it has fewer; else None."""


@dataclass(frozen=True)
class Output:
    """A mean loss over the batch's targets, None without labels, and predictions by name."""

    loss: Tensor | None
    predictions: Mapping[str, Tensor]


@dataclass(frozen=True)
class HeadContext:
    """What a head may know of the run it is built for."""

    hidden_size: int
    classes: int
    dropout: float
    pooling: Pooling
    pooler: Callable[[Tensor], Tensor]
    """The backbone's pooler, [B, H] -> [B, H]; used by `pooling: pooler`."""
    seed: int
    init: torch.Generator = field(repr=False)
    language: Any = None
    """The backbone's language-model head: for the words of the classes, [B, H] -> [B, C], or for
    the whole vocabulary, a `LanguageModel`."""
    trains: bool = True
    """Whether a head that comes with the backbone trains."""


def cross_entropy(logits: Tensor, batch: LabelledBatch) -> Tensor | None:
    """The mean over rows of [B, C], weighted where the batch has weights; None without labels."""
    if batch.labels is None:
        return None
    if batch.weights is None:
        return F.cross_entropy(logits, batch.labels)
    return weighted_cross_entropy(logits, batch.labels, batch.weights)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """sum(w * l) / sum(w) over [n, C], [n] and [n], as in torch; 0 where all weights are 0."""
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


class Head(nn.Module):
    """Hidden states to a loss and predictions; the layer is linear, N(0, 0.02), after dropout.

    To add a head, derive a class from this one, register it, in `registry.py` or with
    `HEADS.add("multi_label", "my_package.heads:MultiLabelHead")`, and name it in the record of a
    kind of task (`KindSpec.head`):

        class MultiLabelHead(PooledHead):
            def __init__(self, context):
                super().__init__(context, outputs=context.classes)

            def forward(self, hidden, batch):
                logits = self.logits(self.pool(hidden, batch))
                loss = None if batch.labels is None else ...  # a mean over the batch's targets
                return Output(loss, {"probabilities": logits.sigmoid()})

    The task's `decode` gets the predictions, one row of each tensor for each feature.
    """

    borrowed: bool = False
    """Whether its tensors are the backbone's own files' and need not be saved."""

    def __init__(self, context: HeadContext, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(context.hidden_size, outputs)
        normal_(self.linear.weight, INIT_STD, context.init)
        nn.init.zeros_(self.linear.bias)
        self.dropout = SeededDropout(context.dropout, context.seed, "dropout/head", by_row=True)

    def logits(self, states: Tensor) -> Tensor:
        """[..., H] -> [..., C] in fp32, whatever the autocast around it."""
        with torch.autocast(states.device.type, enabled=False):
            scores: Tensor = self.linear(self.dropout(states.float()))
        return scores

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Loss and predictions from hidden states [B, T, H]."""
        raise NotImplementedError


class MultiHead(nn.Module):
    """A head for each of several tasks; a batch is of one task and goes to that task's head."""

    def __init__(self, heads: Iterable[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """The output of the task's head for hidden states [B, T, H]."""
        output: Output = self.heads[batch.task](hidden, batch)
        return output
