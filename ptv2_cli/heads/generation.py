"""The head of tasks whose answer the language model writes: how likely the right text is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.heads.base import Head, HeadContext, LabelledBatch, Output
from ptv2_cli.kinds import IGNORE

CHUNK_BYTES = 1 << 26
"""Logits that stand in memory at once, in fp32."""


class GenerationHead(Head):
    """Cross entropy of the answer's tokens under the backbone's own language-model head.

    `labels` [B, T] hold at each position the token that follows it; those of the text itself are
    IGNORE. The logits of the whole vocabulary are made for some positions at a time.
    """

    def __init__(self, context: HeadContext) -> None:
        nn.Module.__init__(self)
        if context.language is None:
            raise ValueError("generation needs a language-model head")
        self.language = context.language
        self.language.requires_grad_(context.trains)
        self.borrowed = not context.trains

    def logits(self, states: Tensor) -> Tensor:
        """[n, H] -> [n, V]."""
        logits: Tensor = self.language(states)
        return logits

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `nll` [B], minus the log probability of each row's answer in nats, and
        `tokens` [B], how many it has."""
        if batch.labels is None:
            return Output(None, {})
        wanted = batch.labels != IGNORE
        trained = [value for value in self.language.parameters() if value.requires_grad]
        mean, losses = mean_loss(
            hidden[wanted], batch.labels[wanted], self.logits, self.language.words, trained
        )
        each = torch.zeros(wanted.shape, device=losses.device).masked_scatter(wanted, losses)
        return Output(mean, {"nll": each.sum(dim=1), "tokens": wanted.sum(dim=1)})


def mean_loss(
    states: Tensor,
    targets: Tensor,
    logits: Callable[[Tensor], Tensor],
    words: int,
    parameters: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor]:
    """The mean cross entropy of n targets and that of each [n], in fp32; only the mean has a graph.

    The logits [n, V] never stand in memory as a whole: they are made for some positions at a time,
    and the gradient is computed with the loss, so that nothing of them is kept.

    Args:
        states: hidden states [n, H].
        targets: [n].
        logits: [m, H] -> [m, V].
        words: V.
        parameters: those of `logits` that train.
    """
    if not torch.is_grad_enabled():  # which the function itself cannot see
        states, parameters = states.detach(), ()
    size = max(CHUNK_BYTES // (4 * words), 1)
    mean: Tensor
    mean, losses = _MeanLoss.apply(states, targets, logits, size, *parameters)  # type: ignore[no-untyped-call]
    return mean, losses


class _MeanLoss(torch.autograd.Function):
    """Computes gradients in its forward pass, chunk by chunk, and scales them in backward."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        targets: Tensor,
        logits: Callable[[Tensor], Tensor],
        size: int,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad)
        of_states, of_parameters = [], [torch.zeros_like(value) for value in parameters]
        losses = [torch.zeros(0, device=states.device)]
        for some, right in zip(torch.split(states, size), torch.split(targets, size), strict=True):
            with torch.set_grad_enabled(wanted):
                leaf = some.detach().requires_grad_(wanted)
                loss = F.cross_entropy(logits(leaf).float(), right, reduction="none")
                losses.append(loss.detach())
                if not wanted:
                    continue
                first, *rest = torch.autograd.grad(loss.sum(), [leaf, *parameters])
            of_states.append(first)
            for total, part in zip(of_parameters, rest, strict=True):
                total += part
        each = torch.cat(losses)
        if wanted:
            ctx.save_for_backward(torch.cat(of_states), *of_parameters)
            ctx.count = len(each)
        ctx.mark_non_differentiable(each)
        return each.mean(), each

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradient / ctx.count
        first, *rest = (value * scale.to(value.dtype) for value in ctx.saved_tensors)
        return first, None, None, None, *rest
