"""DeBERTa-v2 and v3 do not use the registry. Their position scores are 0 at prompt columns."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from ptv2_cli.backbones.adapters.projections import (
    Arguments,
    ProjectionHooks,
    widened,
    with_argument,
)
from ptv2_cli.backbones.injection import Injection


def enter(model: nn.Module, injection: Injection) -> None:
    """Hook every attention module and its position scores."""
    for module in model.modules():
        if isinstance(module, DisentangledSelfAttention):
            _hook(module, injection)


def _hook(attention: DisentangledSelfAttention, injection: Injection) -> None:
    hooks = ProjectionHooks(
        attention, attention.key_proj, attention.value_proj, attention.attention_head_size
    )
    text_bias = attention.disentangled_attention_bias

    def begin(module: nn.Module, args: Any, kwargs: Any) -> Arguments:
        length, text = hooks.begin(), args[0]
        if not length:
            return args, kwargs
        return with_argument(
            args, kwargs, 1, "attention_mask", lambda mask: widened(injection, mask, length, text)
        )

    def bias(query: Tensor, key: Tensor, *rest: Any, **named: Any) -> Tensor:
        length = key.shape[1] - query.shape[1]
        scores: Tensor = text_bias(query, key[:, length:], *rest, **named)
        return nn.functional.pad(scores, (length, 0))

    attention.register_forward_pre_hook(begin, with_kwargs=True)
    attention.disentangled_attention_bias = bias
