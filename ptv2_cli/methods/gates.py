"""P-tuning v2's prompt behind gates that train with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.sites import Prompts, Stack
from ptv2_cli.methods.base import Context
from ptv2_cli.methods.prefix import Prefix


class SeparatePrefix(Prefix):
    """A prompt with a softmax of its own, times tanh of a gate for each key and value head.

    The gates start at zero, so that the first step computes what the backbone computes without a
    prompt, and gradient reaches the gates alone. Keys and values learn as soon as the gates are
    open, from the second step on. LLaMA-Adapter (arXiv 2303.16199, section 3.2).
    """

    def __init__(
        self, context: Context, layers: Mapping[Stack, Sequence[int]], **options: Any
    ) -> None:
        super().__init__(context, layers, **options)
        self.gate = nn.Parameter(torch.zeros(sum(site.heads for site in self.sites.values())))

    def forward(self) -> Prompts:
        """Keys, values and gates [1, K] of every chosen site."""
        heads = [site.heads for site in self.sites.values()]
        gates: tuple[Tensor, ...] = torch.split(self.gate.tanh()[None], heads, dim=1)
        return replace(super().forward(), gates=dict(zip(self.sites, gates, strict=True)))

    def counts(self) -> dict[str, int]:
        """The gates count as part of the prompt."""
        counts = super().counts()
        return {**counts, "prompt": counts["prompt"] + self.gate.numel()}
