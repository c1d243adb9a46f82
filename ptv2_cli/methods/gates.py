"""P-tuning v2's prompt behind gates that train with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ptv2_cli.backbones.sites import Prompts, Stack, StateGate
from ptv2_cli.methods.base import Context
from ptv2_cli.methods.prefix import Prefix

FIRST_SCALE = 2.0
"""Times sigmoid(0) it is 1: the prompt begins as one without gates."""


class GatedPrefix(Prefix):
    """Keys and values with gates.

    Args:
        context: of the run.
        layers: of each stack that get prompts, from 0.
        separate: the prompt has a softmax of its own, times tanh of a gate for each key and value
            head (LLaMA-Adapter, arXiv 2303.16199, section 3.2). These gates start at zero, so that
            the first step computes what the backbone computes without a prompt, and gradient
            reaches the gates alone. Keys and values learn as soon as the gates are open, from the
            second step on.
        adaptive: keys and values are multiplied by a scale for each site times sigmoid(h W) for
            each position, where h is the state of the row's first token that the site's attention
            reads (APT, arXiv 2305.15212, section 3).
        options: of Prefix.
    """

    def __init__(
        self,
        context: Context,
        layers: Mapping[Stack, Sequence[int]],
        *,
        separate: bool,
        adaptive: bool,
        **options: Any,
    ) -> None:
        super().__init__(context, layers, **options)
        count = len(self.sites)
        self.separate, self.adaptive = separate, adaptive
        if separate:
            self.gate = nn.Parameter(torch.zeros(sum(site.heads for site in self.sites.values())))
        if adaptive:
            # Layers may be wider inside than what the model gives (OPT).
            width = int(context.model.config.hidden_size)  # type: ignore[union-attr, arg-type]
            self.state_weight = nn.Parameter(torch.zeros(count, width, context.prompt_len))
            self.state_scale = nn.Parameter(torch.full((count,), FIRST_SCALE))

    def forward(self) -> Prompts:
        """Keys, values and gates of every chosen site."""
        prompts = super().forward()
        if self.separate:
            heads = [site.heads for site in self.sites.values()]
            gates = torch.split(self.gate.tanh()[None], heads, dim=1)
            prompts = replace(prompts, gates=dict(zip(self.sites, gates, strict=True)))
        if self.adaptive:
            parts = zip(self.sites, self.state_weight, self.state_scale, strict=True)
            by_site = {site: StateGate(weight[None], scale[None]) for site, weight, scale in parts}
            prompts = replace(prompts, state_gates=by_site)
        return prompts

    def counts(self) -> dict[str, int]:
        """Gates of heads count as the prompt, what computes gates as the network behind it."""
        counts = super().counts()
        if self.separate:
            counts["prompt"] += self.gate.numel()
        if self.adaptive:
            counts["reparam"] += self.state_weight.numel() + self.state_scale.numel()
        return counts
