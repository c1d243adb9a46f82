"""BigBird: no registry; its sparse form takes no further keys, so it attends in full."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.models.big_bird.modeling_big_bird import BigBirdSelfAttention

from ptv2_cli.backbones.adapters.projections import Arguments, Visit, squared, with_argument
from ptv2_cli.backbones.injection import Slot


def configure(config: Any) -> None:
    """Ask for full attention, which the same weights serve."""
    config.attention_type = "original_full"


def enter(model: nn.Module, slot: Slot) -> None:
    """Hook every attention module."""
    for module in model.modules():
        if isinstance(module, BigBirdSelfAttention):
            _hook(module, slot)


def _hook(attention: BigBirdSelfAttention, slot: Slot) -> None:
    size = attention.attention_head_size
    visit = Visit(attention, attention.key, attention.value, size, square=True)

    def begin(module: nn.Module, args: Any, kwargs: Any) -> Arguments:
        length, text = visit.begin(), args[0]
        if not length:
            return args, kwargs
        args = (visit.lengthen(text), *args[1:])
        return with_argument(
            args, kwargs, 1, "attention_mask", lambda mask: squared(slot, mask, length, text)
        )

    attention.register_forward_pre_hook(begin, with_kwargs=True)
