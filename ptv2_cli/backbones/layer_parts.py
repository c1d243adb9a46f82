"""Where the parts of a layer are: the linear modules at the ends of attention and feed-forward.

They are told by the order of calls in one forward pass, so that no family needs a table of names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.backbones.layer_split import layers_with_sites
from ptv2_cli.backbones.sites import Site

LINEAR = (nn.Linear, Conv1D)
TOKENS = 7
"""Tokens of the text; an odd number, as no table of positions has."""


@dataclass(frozen=True)
class LayerParts:
    """The parts that follow one attention call, as names of modules."""

    site: Site
    attention_output: str
    """The projection of what attention gives to the width of the layer."""
    feed_forward: tuple[str, str] | None
    """The first and the last linear module of the feed-forward part; None: another attention call
    follows first, as in a decoder that also attends to its encoder."""
    width: int
    """Width of the layer's hidden states, H; OPT's may differ from that of the model's output."""


@dataclass(frozen=True)
class _LinearCall:
    attended: int
    """Attention calls before it."""
    module: str
    outputs: int


def layer_parts(backbone: Backbone) -> tuple[LayerParts, ...]:
    """The parts after each site, from one forward pass.

    The first linear module after an attention call is its output projection. What follows before
    the next call, other than the projections inside of attention, is the feed-forward part: its
    gate or first projection, ..., its last projection.
    """
    model: Any = backbone.model
    known: tuple[LayerParts, ...] | None = getattr(model, "_ptv2_parts", None)
    if known is None:
        known = model._ptv2_parts = _parts(backbone, _linear_calls(backbone))
    return known


def _parts(backbone: Backbone, calls: list[_LinearCall]) -> tuple[LayerParts, ...]:
    within = tuple(f"{site.module}." for site in backbone.sites)
    parts = []
    for number, site in enumerate(backbone.sites, start=1):
        output, *rest = [call for call in calls if call.attended == number]
        outside = [call.module for call in rest if not call.module.startswith(within)]
        ends = (outside[0], outside[-1]) if outside else None
        parts.append(LayerParts(site, output.module, ends, output.outputs))
    return tuple(parts)


def _linear_calls(backbone: Backbone) -> list[_LinearCall]:
    """The calls of linear modules in layers, in the order of a forward pass."""
    calls: list[_LinearCall] = []

    def note(module: nn.Module, args: Any, output: Tensor) -> None:
        *tokens, outputs = output.shape
        if math.prod(tokens) == TOKENS:  # DeBERTa also projects a table of relative positions
            attended = backbone.injection.attended
            calls.append(_LinearCall(attended, injection_of(module)[1], outputs))

    # Before other hooks: a family may count its attention in one of its value projection.
    hooks = [
        module.register_forward_hook(note, prepend=True)
        for layer in layers_with_sites(backbone.model)
        for module in layer.modules()
        if isinstance(module, LINEAR) and hasattr(module, "_ptv2_site")
    ]
    device = backbone.word_embeddings.device
    ids = torch.ones(1, TOKENS, dtype=torch.int64, device=device)
    try:
        backbone.read(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
