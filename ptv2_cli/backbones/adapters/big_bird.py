"""BigBird does not use the registry. Its sparse form takes no more keys: use full attention."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.models.big_bird.modeling_big_bird import BigBirdSelfAttention

from ptv2_cli.backbones.adapters.projections import (
    Arguments,
    ProjectionHooks,
    squared,
    with_argument,
)
from ptv2_cli.backbones.injection import Injection


def configure(config: Any) -> None:
    """Choose full attention, which works with the same weights."""
    config.attention_type = "original_full"


def enter(model: nn.Module, injection: Injection) -> None:
    """Hook every attention module."""
    for module in model.modules():
        if isinstance(module, BigBirdSelfAttention):
            _hook(module, injection)


def _hook(attention: BigBirdSelfAttention, injection: Injection) -> None:
    size = attention.attention_head_size
    hooks = ProjectionHooks(attention, attention.key, attention.value, size, square=True)

    def begin(module: nn.Module, args: Any, kwargs: Any) -> Arguments:
        length, text = hooks.begin(), args[0]
        if not length:
            return args, kwargs
        args = (hooks.lengthen(text), *args[1:])
        return with_argument(
            args, kwargs, 1, "attention_mask", lambda mask: squared(injection, mask, length, text)
        )

    attention.register_forward_pre_hook(begin, with_kwargs=True)
