"""The modules of P-tuning v2: prompt values, trained as they are or computed by a network."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.sites import KeysValues, Prompts, Site
from ptv2_cli.methods.base import Context, Method
from ptv2_cli.methods.initial import PUBLISHED_STD, drawn_std, first_values
from ptv2_cli.methods.ptuning_v2 import PTuningV2
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
    """Keys and values of the chosen sites: forward gives [1, K, P, D] for each."""

    def __init__(self, spec: PTuningV2, context: Context) -> None:
        super().__init__()
        length = context.prompt_len
        layers = spec.layers_by_stack(Counter(site.stack for site in context.sites))
        self.sites = {
            number: site
            for number, site in enumerate(context.sites)
            if site.layer in layers.get(site.stack, ())
        }
        self.lowest = min(site.layer for site in self.sites.values())
        self.offset = length if spec.shifts_positions else 0
        self.source: Direct | Reparameterized
        if spec.reparam == "mlp":
            width = sum(site.width for site in self.sites.values())
            std = drawn_std(spec.init)
            assert std is not None
            self.source = Reparameterized(
                length, context.hidden_size, spec.reparam_hidden, width, std, context.init
            )
        else:
            values, note = first_values(spec.init, length, self.sites, context)
            self.source = Direct(values)
            self.notes = (note,) if note else ()
        probability = context.dropout if spec.dropout is None else spec.dropout
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
