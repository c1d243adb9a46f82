"""The prompt of P-tuning v2 with trained gates."""

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
"""Initial scale: times sigmoid(0) it is 1, as without gates."""


class GatedPrefix(Prefix):
    """Keys and values with gates.

    Args:
        context: context of the run.
        layers: layers of each stack that get prompts, from 0.
        separate: whether the prompt has a separate softmax, whose result is multiplied by tanh of
            a gate for each key and value head (LLaMA-Adapter, arXiv 2303.16199, section 3.2). The
            gates start at 0, so the first forward pass equals that of the backbone without a
            prompt, and only the gates get a gradient. Keys and values learn from the second step.
        adaptive: whether keys and values are multiplied by a scale for each site and by
            sigmoid(h W / sqrt(H)) for each position, where h is the state of the row's first token
            at the input of the site's attention (after APT, arXiv 2305.15212, section 3).
        options: further arguments of Prefix.
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
            # The width inside the layers, which may differ from that of the output (OPT).
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
        """Gates of heads count as `prompt`; what computes the gates of positions, as `reparam`."""
        counts = super().counts()
        if self.separate:
            counts["prompt"] += self.gate.numel()
        if self.adaptive:
            counts["reparam"] += self.state_weight.numel() + self.state_scale.numel()
        return counts
