"""Modules that return prompt values [P, W]; W is the width of all sites together.

Each position has the keys and then the values of the first site, then of the second, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ptv2_cli.methods.initial import PUBLISHED_STD
from ptv2_cli.rng import normal_


class Direct(nn.Module):
    """Prompt values that train directly."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.prompt = nn.Parameter(values)

    def forward(self) -> Tensor:
        """Prompt values [P, W]."""
        return self.prompt


class TwoRates(nn.Module):
    """Prompt values that train directly, with different learning rates for keys and values.

    Args:
        values: [P, W].
        widths: widths of the sites, with the sum W.
        trains_keys: whether the keys train.
    """

    def __init__(self, values: Tensor, widths: Sequence[int], *, trains_keys: bool) -> None:
        super().__init__()
        self._halves = [width // 2 for width in widths]
        sites = [part.chunk(2, dim=1) for part in torch.split(values, list(widths), dim=1)]
        keys, others = (torch.cat(parts, dim=1) for parts in zip(*sites, strict=True))
        self.values = nn.Parameter(others)
        self.keys = nn.Parameter(keys, requires_grad=trains_keys)

    def forward(self) -> Tensor:
        """Prompt values [P, W]."""
        keys = torch.split(self.keys, self._halves, dim=1)
        values = torch.split(self.values, self._halves, dim=1)
        sites = zip(keys, values, strict=True)
        return torch.cat([half for site in sites for half in site], dim=1)


class Reparameterized(nn.Module):
    """Embedding(P, H) -> Linear(H, hidden) -> Tanh -> Linear(hidden, W), as published."""

    def __init__(
        self, length: int, size: int, hidden: int, width: int, std: float, init: torch.Generator
    ) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.empty(length, size))
        self.network = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, width))
        normal_(self.prompt, std, init)
        _draw(self.network, init)

    def forward(self) -> Tensor:
        """Prompt values [P, W]."""
        values: Tensor = self.network(self.prompt)
        return values


class Residual(nn.Module):
    """values + LayerNorm(Linear(ReLU(Linear(values)))), one network for all positions.

    This is the reparameterization of Residual Prompt Tuning (arXiv 2305.03937), applied to the keys
    and values of a position instead of its embedding. There the gain of the LayerNorm starts at 1,
    here at 0, so the prompt starts exactly at `values`.

    Args:
        values: [P, W].
        hidden: width of the bottleneck.
        init: draws the network's weights.
    """

    def __init__(self, values: Tensor, hidden: int, init: torch.Generator) -> None:
        super().__init__()
        width = values.shape[1]
        self.prompt = nn.Parameter(values)
        norm = nn.LayerNorm(width)
        self.network = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width), norm
        )
        _draw(self.network, init)
        nn.init.zeros_(norm.weight)

    def forward(self) -> Tensor:
        """Prompt values [P, W]."""
        values: Tensor = self.prompt + self.network(self.prompt)
        return values


def _draw(network: nn.Module, init: torch.Generator) -> None:
    """N(0, 0.02) for weights, 0 for biases."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() > 1:
            normal_(parameter, PUBLISHED_STD, init)
