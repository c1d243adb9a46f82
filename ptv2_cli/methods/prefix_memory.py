"""The module of Prefix-Tuning+ (arXiv 2506.13674)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ptv2_cli.backbones.sites import Prompts, Stack
from ptv2_cli.methods.base import Context, Method


class PrefixMemory(Method):
    """A matrix M [K, D, D] for each chosen site; it starts at 0 and then changes nothing.

    Args:
        context: context of the run.
        layers: layers of each stack that get matrices, from 0.
    """

    def __init__(self, context: Context, layers: Mapping[Stack, Sequence[int]]) -> None:
        super().__init__()
        sites = {
            number: site
            for number, site in enumerate(context.sites)
            if site.layer in layers.get(site.stack, ())
        }
        self.numbers = tuple(sites)
        self.lowest = min(site.layer for site in sites.values())
        self.memories = nn.ParameterList(
            torch.zeros(site.heads, site.head_size, site.head_size) for site in sites.values()
        )

    def forward(self) -> Prompts:
        """The matrices [1, K, D, D] of every chosen site."""
        return Prompts(
            memories={
                number: memory[None]
                for number, memory in zip(self.numbers, self.memories, strict=True)
            }
        )

    def counts(self) -> dict[str, int]:
        """The matrices count as `prompt`."""
        return {"prompt": sum(memory.numel() for memory in self.memories), "reparam": 0}
