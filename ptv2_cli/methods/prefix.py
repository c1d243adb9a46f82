"""The module of P-tuning v2: keys and values for the chosen sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.sites import KeysValues, Prompts, Site, Stack
from ptv2_cli.methods.base import Context, Method
from ptv2_cli.methods.initial import drawn_std, first_values
from ptv2_cli.methods.prompt_values import Direct, Reparameterized, Residual, TwoRates
from ptv2_cli.rng import SeededDropout

NETWORK_FACTOR = 0.03
"""Learning rate of a residual network, as a multiple of that of the prompt. With 1, a prompt that
starts with computed keys and values has F1 0 after an epoch of CoNLL-2003, with 0.03 F1 64."""


class Prefix(Method):
    """Keys and values of the chosen sites; forward returns both as [1, K, P, D] for each site.

    Args:
        context: of the run.
        layers: of each stack that get prompts, from 0.
        init: initial values; see `initial`.
        reparam: the network that computes keys and values; none: they train directly.
        hidden: hidden width of the network that computes them.
        key_lr_factor: learning rate of the keys as a multiple of that of the values; 0: frozen.
        freeze_first: whether the first position is frozen; it gets no dropout.
        dropout: on keys and values, or off; None: the backbone's.
        offset: number by which the text's positions are shifted.
    """

    first: Tensor | None
    """The first position [1, W], if it is frozen."""

    def __init__(
        self,
        context: Context,
        layers: Mapping[Stack, Sequence[int]],
        *,
        init: Any,
        reparam: Literal["none", "mlp", "residual"],
        hidden: int,
        key_lr_factor: float,
        freeze_first: bool,
        dropout: float | Literal["off"] | None,
        offset: int,
    ) -> None:
        super().__init__()
        self.sites = {
            number: site
            for number, site in enumerate(context.sites)
            if site.layer in layers.get(site.stack, ())
        }
        self.lowest = min(site.layer for site in self.sites.values())
        self.offset = offset
        self._widths = [site.width for site in self.sites.values()]
        self._key_lr_factor = key_lr_factor
        self.register_buffer("first", None)
        self.source: nn.Module
        if reparam == "mlp":
            std = drawn_std(init)
            assert std is not None
            size, width = context.hidden_size, sum(self._widths)
            self.source = Reparameterized(
                context.prompt_len, size, hidden, width, std, context.init
            )
        else:
            values, note = first_values(init, context.prompt_len, self.sites, context)
            self.notes = (note,) if note else ()
            if freeze_first:
                self.first, values = values[:1].clone(), values[1:].clone()
            if reparam == "residual":
                self.source = Residual(values, hidden, context.init)
            elif key_lr_factor != 1:
                self.source = TwoRates(values, self._widths, trains_keys=key_lr_factor > 0)
            else:
                self.source = Direct(values)
        probability = context.dropout if dropout is None else dropout
        self.dropout = SeededDropout(
            0.0 if probability == "off" else probability, context.seed, "dropout/prompt"
        )

    def forward(self) -> Prompts:
        """Keys and values of every chosen site, with dropout."""
        values: Tensor = self.dropout(self.source())
        if self.first is not None:
            values = torch.cat([self.first, values])
        parts = torch.split(values, self._widths, dim=1)
        return Prompts(
            keys_values={
                number: _keys_values(part, site)
                for (number, site), part in zip(self.sites.items(), parts, strict=True)
            },
            offset=self.offset,
        )

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """The factor of the keys, or that of the residual network."""
        if isinstance(self.source, TwoRates):
            return {self.source.keys: self._key_lr_factor}
        if isinstance(self.source, Residual):
            return dict.fromkeys(self.source.network.parameters(), NETWORK_FACTOR)
        return {}

    def counts(self) -> dict[str, int]:
        """Trained prompt values, and those of the network."""
        counts = {"prompt": 0, "reparam": 0}
        for name, parameter in self.source.named_parameters():
            if parameter.requires_grad:
                part = "reparam" if name.startswith("network.") else "prompt"
                counts[part] += parameter.numel()
        return counts


def _keys_values(part: Tensor, site: Site) -> KeysValues:
    """[P, 2 * K * D] -> keys and values, each [1, K, P, D]."""
    shaped = part.view(part.shape[0], 2, site.heads, site.head_size).permute(1, 2, 0, 3)
    return shaped[0][None], shaped[1][None]
