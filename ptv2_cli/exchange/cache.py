"""Our prompts through a model's own cache, the way PEFT gives a prefix to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.sites import KeysValues, Prompts
from ptv2_cli.seeding import generator

TOLERANCE = 1e-3
"""Largest difference of hidden states, relative to the largest of them, that counts as none."""
TOKENS = 6


@dataclass(frozen=True)
class _Text:
    """One short row without padding."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: None = None
    slots: None = None


def flattened(prompts: Mapping[int, KeysValues]) -> Tensor:
    """Keys and values [1, K, P, D] of L sites as PEFT and the reference lay them: [P, L*2*K*D]."""
    parts = [
        part[0].permute(1, 0, 2).flatten(1)  # [K, P, D] -> [P, K * D]
        for at in sorted(prompts)
        for part in prompts[at]
    ]
    return torch.cat(parts, dim=1)


@torch.no_grad()
def cache_difference(backbone: Backbone, prompts: Prompts) -> float:
    """How far hidden states are from ours when the prompts come as the model's past.

    The model is left as it was. Relative to the largest of our hidden states.
    """
    assert prompts.keys_values is not None
    model = backbone.model
    vocabulary = backbone.word_embeddings.shape[0]
    ids = torch.randint(vocabulary, (1, TOKENS), generator=generator(0, "exchange/probe"))
    length = next(iter(prompts.keys_values.values()))[0].shape[2]
    text = _Text(ids, torch.ones_like(ids))
    ours = backbone(text, prompts)
    past = DynamicCache([prompts.keys_values[at] for at in sorted(prompts.keys_values)])
    own = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        theirs = model(
            input_ids=ids,
            attention_mask=torch.ones(1, length + TOKENS, dtype=torch.int64),
            past_key_values=past,
        ).last_hidden_state
    finally:
        model.set_attn_implementation(own)
    return float((ours - theirs).abs().max() / ours.abs().max())
