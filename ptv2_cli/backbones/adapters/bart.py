"""BART: prompts come by the registry; positions are counted inside, so they are shifted there."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.models.bart.modeling_bart import BartLearnedPositionalEmbedding

from ptv2_cli.backbones.injection import Slot


def enter(model: nn.Module, slot: Slot) -> None:
    """Shift the positions of both stacks by what the slot says."""
    for name, module in model.named_modules():
        if isinstance(module, BartLearnedPositionalEmbedding):
            _hook(module, slot, name.split(".")[0])


def _hook(table: nn.Module, slot: Slot, stack: str) -> None:
    def shift(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
        offset = slot.offset.get(stack, 0)
        if kwargs.get("position_ids") is not None:  # the decoder brings its own
            return args, {**kwargs, "position_ids": kwargs["position_ids"] + offset}
        return args[:1], {"past_key_values_length": offset}

    table.register_forward_pre_hook(shift, with_kwargs=True)
