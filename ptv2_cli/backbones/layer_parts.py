"""The parts of a layer: the first and last linear modules of attention and feed-forward.

The order of calls in one forward pass identifies them, so no family needs a table of names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.backbone import LINEAR, Backbone
from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.backbones.layer_split import layers_with_sites
from ptv2_cli.backbones.sites import Site

TOKENS = 7
"""Number of tokens in the forward pass; odd, unlike the size of any table of positions."""


@dataclass(frozen=True)
class LayerParts:
    """The parts that follow one attention call, by module names."""

    site: Site
    attention_output: str
    """The output projection of attention."""
    feed_forward: tuple[str, str] | None
    """The first and the last linear module of the feed-forward part; None: another attention call
    comes before it, as in a decoder that also attends to its encoder."""
    width: int
    """Width of the layer's hidden states; in OPT it may differ from that of the model's output."""


@dataclass(frozen=True)
class _LinearCall:
    attended: int
    """Number of attention calls before this call."""
    module: str
    outputs: int


def layer_parts(backbone: Backbone) -> tuple[LayerParts, ...]:
    """The parts after each site, from one forward pass.

    The first linear module after an attention call is its output projection. The linear modules
    from there to the next attention call, without those inside attention modules, form the
    feed-forward part: its gate or first projection first, its last projection last.
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

    # Before other hooks: some families count attention calls in a hook of the value projection.
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
