"""The modules of P-tuning v2: prompt values, trained as they are or computed by a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.sites import KeysValues, Prompts, Site, Stack
from ptv2_cli.methods.base import Context, Method
from ptv2_cli.methods.initial import PUBLISHED_STD, drawn_std, first_values
from ptv2_cli.rng import SeededDropout, normal_


class Direct(nn.Module):
    """Prompt values that train as they are: [P, W], W the width of all sites together."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.prompt = nn.Parameter(values)

    def forward(self) -> Tensor:
        """Prompt values [P, W]."""
        return self.prompt


class Reparameterized(nn.Module):
    """Embedding(P, H) -> Linear(H, hidden) -> Tanh -> Linear(hidden, W), as published."""

    def __init__(
        self, length: int, size: int, hidden: int, width: int, std: float, init: torch.Generator
    ) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.empty(length, size))
        self.network = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, width))
        normal_(self.prompt, std, init)
        for name, parameter in self.network.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                normal_(parameter, PUBLISHED_STD, init)

    def forward(self) -> Tensor:
        """Prompt values [P, W]."""
        values: Tensor = self.network(self.prompt)
        return values


class Prefix(Method):
    """Keys and values of the chosen sites: forward gives [1, K, P, D] for each.

    Args:
        context: of the run.
        layers: of each stack that get prompts, from 0.
        init: where the values begin; see `initial`.
        hidden: hidden width of the network that computes the values; None: they train as they are.
        dropout: on keys and values, or off; None: the backbone's.
        offset: positions by which the text's own are shifted.
    """

    def __init__(
        self,
        context: Context,
        layers: Mapping[Stack, Sequence[int]],
        *,
        init: Any,
        hidden: int | None,
        dropout: float | Literal["off"] | None,
        offset: int,
    ) -> None:
        super().__init__()
        length = context.prompt_len
        self.sites = {
            number: site
            for number, site in enumerate(context.sites)
            if site.layer in layers.get(site.stack, ())
        }
        self.lowest = min(site.layer for site in self.sites.values())
        self.offset = offset
        self.source: Direct | Reparameterized
        if hidden is not None:
            width = sum(site.width for site in self.sites.values())
            std = drawn_std(init)
            assert std is not None
            self.source = Reparameterized(
                length, context.hidden_size, hidden, width, std, context.init
            )
        else:
            values, note = first_values(init, length, self.sites, context)
            self.source = Direct(values)
            self.notes = (note,) if note else ()
        probability = context.dropout if dropout is None else dropout
        self.dropout = SeededDropout(
            0.0 if probability == "off" else probability, context.seed, "dropout/prompt"
        )

    def forward(self) -> Prompts:
        """Keys and values of every chosen site, dropout applied."""
        values: Tensor = self.dropout(self.source())
        widths = [site.width for site in self.sites.values()]
        parts = torch.split(values, widths, dim=1)
        return Prompts(
            keys_values={
                number: _keys_values(part, site)
                for (number, site), part in zip(self.sites.items(), parts, strict=True)
            },
            offset=self.offset,
        )

    def counts(self) -> dict[str, int]:
        """Prompt values, and those of the network behind them."""
        total = sum(parameter.numel() for parameter in self.source.parameters())
        prompt = self.source.prompt.numel()
        return {"prompt": prompt, "reparam": total - prompt}


def _keys_values(part: Tensor, site: Site) -> KeysValues:
    """[P, 2 * K * D] -> keys and values, each [1, K, P, D]."""
    shaped = part.view(part.shape[0], 2, site.heads, site.head_size).permute(1, 2, 0, 3)
    return shaped[0][None], shaped[1][None]
