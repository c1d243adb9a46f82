"""What transformers' own classes with a head compute, found out from their modules."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from transformers import DynamicCache

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.sites import KeysValues, Prompts
from ptv2_cli.kinds import KindSpec
from ptv2_cli.rng import generator

HEAD_NAMES = ("classifier", "score", "qa_outputs")
"""What transformers calls a head of one linear layer, and PEFT saves beside a prompt."""


@dataclass(frozen=True)
class StockHead:
    """A head of transformers that is one linear layer, as ours are."""

    model: str
    """Name of the class, such as AutoModelForTokenClassification."""
    task_type: str
    """PEFT's name of the task."""
    name: str
    """Name of the linear layer."""
    bias: bool
    reads: Literal["pooler", "last", "tokens"]


def stock_head(config: Any, spec: KindSpec, outputs: int, *, causal: bool) -> StockHead | None:
    """The head that transformers has for a model and a kind, if it is nothing but a linear layer.

    Args:
        config: the model's config of transformers.
        spec: the kind of the run's task.
        outputs: how many numbers the head gives.
        causal: whether the model sees no later tokens: its sequence class reads the last one.
    """
    if spec.peft is None:
        return None
    sized = copy.deepcopy(config)
    sized.num_labels = outputs
    try:
        with torch.device("meta"):
            model = getattr(transformers, spec.peft.model).from_config(sized)
    except ValueError:  # there is no such class for this family
        return None
    parts = dict(model.named_children())
    heads = [part for part in parts if isinstance(parts[part], nn.Linear)]
    bodies = [part for part in parts.values() if isinstance(part, transformers.PreTrainedModel)]
    others = [
        part
        for part in parts.values()
        if not isinstance(part, nn.Linear | nn.Dropout | transformers.PreTrainedModel)
    ]
    if len(heads) != 1 or heads[0] not in HEAD_NAMES or len(bodies) != 1 or others:
        return None
    reads = _reads(spec, bodies[0], causal)
    if reads is None:
        return None
    bias = parts[heads[0]].bias is not None
    return StockHead(spec.peft.model, spec.peft.task_type, heads[0], bias, reads)


def _reads(spec: KindSpec, body: Any, causal: bool) -> Literal["pooler", "last", "tokens"] | None:
    if not spec.pooled:
        return "tokens"
    if getattr(body, "pooler", None) is not None:
        return "pooler"
    return "last" if causal else None


def takes_prefix(model: Any) -> bool:
    """Whether a model's forward takes keys and values from outside, as PEFT's prefixes need."""
    return "past_key_values" in inspect.signature(model.forward).parameters


def window_of(config: Any) -> int | None:
    """Tokens that a sliding window sees, in a model that has layers with one."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return None
    window = getattr(config, "sliding_window", None)
    return None if window is None else int(window)


def reads_segments(config: Any) -> bool:
    """Whether two segments of a text are told apart by their token types."""
    return int(getattr(config, "type_vocab_size", 0) or 0) > 1


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
