"""BART uses the registry, but counts positions inside, so they are shifted there."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.models.bart.modeling_bart import BartLearnedPositionalEmbedding

from ptv2_cli.backbones.injection import Injection


def enter(model: nn.Module, injection: Injection) -> None:
    """Shift the positions of both stacks by the injection's offset."""
    for name, module in model.named_modules():
        if isinstance(module, BartLearnedPositionalEmbedding):
            _hook(module, injection, name.split(".")[0])


def _hook(table: nn.Module, injection: Injection, stack: str) -> None:
    def shift(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
        offset = injection.offset.get(stack, 0)
        if kwargs.get("position_ids") is not None:  # the decoder passes its own
            return args, {**kwargs, "position_ids": kwargs["position_ids"] + offset}
        return args[:1], {"past_key_values_length": offset}

    table.register_forward_pre_hook(shift, with_kwargs=True)
