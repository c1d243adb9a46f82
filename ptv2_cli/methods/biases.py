"""The module of BitFit: a trained difference for every bias of the backbone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.backbone import LINEAR
from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.errors import BackboneError
from ptv2_cli.methods.base import Context, Method


class Biases(Method):
    """Differences [O] of biases, initially 0; forward returns edits that add them to outputs.

    This equals training the biases themselves. The bias of a pooler stays frozen, and so do the
    vectors that DeBERTa adds to queries and values outside of any linear layer.

    Raises:
        BackboneError: no linear layer or norm has a bias.
    """

    def __init__(self, context: Context) -> None:
        super().__init__()
        widths = dict(_biases(context.model))
        if not widths:
            raise BackboneError.at(
                "method",
                "bitfit trains biases, and the linear layers and norms of this backbone have none",
                "choose a method that adds weights, such as houlsby_adapter",
            )
        self.names = list(widths)
        self.differences = nn.ParameterList(torch.zeros(width) for width in widths.values())

    def forward(self) -> Prompts:
        """An edit of the output of each module with a bias."""
        pairs = zip(self.names, self.differences, strict=True)
        return Prompts(edits={name: partial(_plus, difference) for name, difference in pairs})

    def counts(self) -> dict[str, int]:
        """The number of values of all biases."""
        total = sum(difference.numel() for difference in self.differences)
        return {**super().counts(), "adapter": total}


def _plus(difference: Tensor, inputs: Tensor, output: Tensor) -> Tensor:
    return output + difference.to(output.dtype)


def _biases(model: nn.Module) -> Iterator[tuple[str, int]]:
    """The names of linear layers and norms with a bias, and the width of the bias."""
    for module in model.modules():
        bias = getattr(module, "bias", None)
        if not isinstance(bias, nn.Parameter) or not hasattr(module, "_ptv2_site"):
            continue
        norm = isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("LayerNorm")
        if norm or isinstance(module, LINEAR):
            yield injection_of(module)[1], bias.numel()
