"""What transformers' classes with a head compute, determined from their modules."""

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
from ptv2_cli.backbones.sites import KeysValues, PlainBatch, Prompts
from ptv2_cli.kinds import KindSpec
from ptv2_cli.rng import generator

HEAD_NAMES = ("classifier", "score", "qa_outputs")
"""Names of heads of one linear layer in transformers, which PEFT saves with a prompt."""


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
    """The head that transformers has for a model and a kind, if it is only a linear layer.

    Args:
        config: the model's config of transformers.
        spec: the kind of the run's task.
        outputs: number of outputs of the head.
        causal: whether the model is causal: its sequence class then reads the last token.
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
    """Whether a model's forward accepts past keys and values, as PEFT's prefixes need."""
    return "past_key_values" in inspect.signature(model.forward).parameters


def window_of(config: Any) -> int | None:
    """Tokens in the sliding window of a model; None: no layer has one."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return None
    window = getattr(config, "sliding_window", None)
    return None if window is None else int(window)


def reads_segments(config: Any) -> bool:
    """Whether the model has token types that distinguish two segments."""
    return int(getattr(config, "type_vocab_size", 0) or 0) > 1


TOLERANCE = 1e-3
"""Largest accepted difference of hidden states, relative to the largest of them."""
TOKENS = 6


def flattened(prompts: Mapping[int, KeysValues]) -> Tensor:
    """Keys and values [1, K, P, D] of L sites in PEFT's and the reference's layout [P, L*2*K*D]."""
    parts = [
        part[0].permute(1, 0, 2).flatten(1)  # [K, P, D] -> [P, K * D]
        for site in sorted(prompts)
        for part in prompts[site]
    ]
    return torch.cat(parts, dim=1)


@torch.no_grad()
def cache_difference(backbone: Backbone, prompts: Prompts) -> float:
    """Difference from our hidden states if the prompts are passed as the model's cache.

    Relative to the largest of our hidden states. The model does not change.
    """
    assert prompts.keys_values is not None
    model = backbone.model
    vocabulary = backbone.word_embeddings.shape[0]
    ids = torch.randint(vocabulary, (1, TOKENS), generator=generator(0, "exchange/probe"))
    length = next(iter(prompts.keys_values.values()))[0].shape[2]
    text = PlainBatch(ids, torch.ones_like(ids))
    ours = backbone(text, prompts)
    past = DynamicCache([prompts.keys_values[site] for site in sorted(prompts.keys_values)])
    implementation = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        theirs = model(
            input_ids=ids,
            attention_mask=torch.ones(1, length + TOKENS, dtype=torch.int64),
            past_key_values=past,
        ).last_hidden_state
    finally:
        model.set_attn_implementation(implementation)
    return float((ours - theirs).abs().max() / ours.abs().max())
