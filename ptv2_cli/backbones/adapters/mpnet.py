"""MPNet does not use the registry. Its relative position bias is 0 at prompt columns."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.functional import pad
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from ptv2_cli.backbones.adapters.projections import (
    Arguments,
    ProjectionHooks,
    squared,
    with_argument,
)
from ptv2_cli.backbones.injection import Injection


def enter(model: nn.Module, injection: Injection) -> None:
    """Hook every attention module."""
    for module in model.modules():
        if isinstance(module, MPNetSelfAttention):
            _hook(module, injection)


def _hook(attention: MPNetSelfAttention, injection: Injection) -> None:
    hooks = ProjectionHooks(
        attention, attention.k, attention.v, attention.attention_head_size, square=True
    )

    def begin(module: nn.Module, args: Any, kwargs: Any) -> Arguments:
        length, text = hooks.begin(), args[0]
        if not length:
            return args, kwargs
        args = (hooks.lengthen(text), *args[1:])
        args, kwargs = with_argument(
            args, kwargs, 1, "attention_mask", lambda mask: squared(injection, mask, length, text)
        )
        return with_argument(
            args, kwargs, 2, "position_bias", lambda bias: pad(bias, (length, 0, length, 0))
        )

    attention.register_forward_pre_hook(begin, with_kwargs=True)
