"""MPNet: no registry; relative position bias, which is 0 at prompt columns."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.functional import pad
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from ptv2_cli.backbones.adapters.projections import Arguments, Visit, squared, with_argument
from ptv2_cli.backbones.injection import Slot


def enter(model: nn.Module, slot: Slot) -> None:
    """Hook every attention module."""
    for module in model.modules():
        if isinstance(module, MPNetSelfAttention):
            _hook(module, slot)


def _hook(attention: MPNetSelfAttention, slot: Slot) -> None:
    visit = Visit(attention, attention.k, attention.v, attention.attention_head_size, square=True)

    def begin(module: nn.Module, args: Any, kwargs: Any) -> Arguments:
        length, text = visit.begin(), args[0]
        if not length:
            return args, kwargs
        args = (visit.lengthen(text), *args[1:])
        args, kwargs = with_argument(
            args, kwargs, 1, "attention_mask", lambda mask: squared(slot, mask, length, text)
        )
        return with_argument(
            args, kwargs, 2, "position_bias", lambda bias: pad(bias, (length, 0, length, 0))
        )

    attention.register_forward_pre_hook(begin, with_kwargs=True)
