"""The module of `method: gated_prompt`: keys, values and a gate for every site."""

from __future__ import annotations

import torch
from torch import nn

from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.methods.base import Context, Method


class GatedModule(Method):
    """forward gives keys and values [1, K, P, D] and gates tanh(g) [1, K] for each site."""

    def __init__(self, std: float, context: Context) -> None:
        super().__init__()
        self.sites = list(context.sites)
        self.length = context.prompt_len
        drawn = torch.randn(
            self.length, sum(site.width for site in self.sites), generator=context.init
        )
        self.prompt = nn.Parameter(std * drawn)
        self.gate = nn.Parameter(torch.zeros(sum(site.heads for site in self.sites)))

    def forward(self) -> Prompts:
        """Closed gates give the backbone as it is, so training starts from its own answers."""
        parts = torch.split(self.prompt, [site.width for site in self.sites], dim=1)
        gates = torch.split(self.gate.tanh(), [site.heads for site in self.sites])
        keys_values = {}
        for number, (site, part) in enumerate(zip(self.sites, parts, strict=True)):
            shaped = part.view(self.length, 2, site.heads, site.head_size).permute(1, 2, 0, 3)
            keys_values[number] = (shaped[0][None], shaped[1][None])
        return Prompts(
            keys_values=keys_values,
            gates={number: gate[None] for number, gate in enumerate(gates)},
        )

    def counts(self) -> dict[str, int]:
        """The gates count as part of the prompt."""
        return {"prompt": self.prompt.numel() + self.gate.numel(), "reparam": 0}
