"""How far one model's next-token distributions are from another's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

CHUNK_BYTES = 1 << 26
"""Logits of one model that stand in memory at once, in fp32."""

Logits = Callable[[Tensor], Tensor]
"""Hidden states [m, H] -> logits [m, V]."""


@dataclass(frozen=True)
class Divergence:
    """Two models at n positions, in nats, fp32."""

    kl: Tensor
    """KL(before || after) [n]."""
    before: Tensor
    """Minus the log probability of the token that follows [n]."""
    after: Tensor
    """The same of the other model [n]."""


def divergence(
    before: Tensor, after: Tensor, targets: Tensor, heads: tuple[Logits, Logits], words: int
) -> Divergence:
    """Compare two models; the logits [n, V] are made for some positions at a time.

    Args:
        before: hidden states of the model that is compared with [n, H].
        after: hidden states of the other one [n, H].
        targets: the tokens that follow [n].
        heads: the language-model heads of the two.
        words: V.
    """
    size = max(CHUNK_BYTES // (4 * words), 1)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for first in range(0, len(targets), size):
        some = slice(first, first + size)
        one, other = (
            head(states[some]).float().log_softmax(dim=-1)
            for head, states in zip(heads, (before, after), strict=True)
        )
        kl = (one.exp() * (one - other)).sum(dim=-1)
        right = targets[some]
        losses = (F.nll_loss(scores, right, reduction="none") for scores in (one, other))
        parts.append((kl, *losses))  # type: ignore[arg-type]
    return Divergence(*(torch.cat(column) for column in zip(*parts, strict=True)))
