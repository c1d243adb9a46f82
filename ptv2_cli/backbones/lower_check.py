"""Whether a backbone's layers can go on from kept outputs of those below: tried, not believed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.halves import Halves
from ptv2_cli.backbones.probe import LENGTH, random_prompt
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.errors import BackboneError

LENGTHS = (5, 3)
"""Tokens of the two texts of the check: one of them is padded."""
TOLERANCE = {torch.float32: 1e-3}
"""Largest norm of a difference against the norm of the whole, by the type of the weights."""
HALF_TOLERANCE = 5e-2
"""The same where weights are held in fewer bits."""


@dataclass(frozen=True)
class Rows:
    """Some texts as a backbone reads them."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None = None
    slots: Tensor | None = None


def check_lower(backbone: Backbone, name: str) -> None:
    """Compare forward passes from kept lower layers with whole ones, padded text included.

    Raises:
        BackboneError: they differ, so layers hand on more than the hidden states that are kept.
    """
    training = backbone.training
    backbone.eval()
    device = backbone.word_embeddings.device
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            halves = Halves(backbone)
            depths = {
                halves.depth(backbone, _prompts(backbone, at)) for at in (1, halves.layers - 1)
            }
            for depth in sorted(depths - {0}):
                if not _agrees(backbone, halves, depth):
                    raise BackboneError.at(
                        "train.cache",
                        f"{backbone.shape.family.name} layers hand more to each other than hidden "
                        f"states: those of {name} cannot go on from kept outputs of lower ones",
                        "leave train.cache out; method: head_only can keep its outputs",
                    )
    finally:
        backbone.train(training)


def _agrees(backbone: Backbone, halves: Halves, depth: int) -> bool:
    text, prompts = _text(backbone), _prompts(backbone, depth)
    whole = backbone(text, prompts)
    real = text.attention_mask[..., None].bool()
    # Padding is not kept: zeros stand in its place.
    states = halves.lower(backbone, text, prompts, depth) * real
    found = halves.upper(backbone, text, prompts, depth, states)
    apart = ((found - whole) * real).float().norm() / (whole * real).float().norm()
    return bool(apart < TOLERANCE.get(backbone.word_embeddings.dtype, HALF_TOLERANCE))


def _prompts(backbone: Backbone, lowest: int) -> Prompts:
    """Random prompts at the layers from `lowest` upwards."""
    draws = torch.Generator().manual_seed(0)
    device = backbone.word_embeddings.device
    found = {}
    for at, site in enumerate(backbone.sites):
        keys, values = random_prompt(site, draws)
        if site.layer >= lowest:
            found[at] = (keys.to(device), values.to(device))
    return Prompts(keys_values=found, offset=LENGTH)


def _text(backbone: Backbone) -> Rows:
    """Two texts of unequal length, out of the middle of the vocabulary."""
    table = backbone.word_embeddings
    lengths = torch.tensor(LENGTHS, device=table.device)[:, None]
    mask = (torch.arange(max(LENGTHS), device=table.device) < lengths).long()
    ids = torch.arange(mask.numel(), device=table.device).view_as(mask) + table.shape[0] // 2
    return Rows(ids * mask, mask)
