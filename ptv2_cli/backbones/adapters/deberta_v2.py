"""DeBERTa-v2 and v3: no registry; disentangled position scores, which are 0 at prompt columns."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from ptv2_cli.backbones.adapters.projections import Arguments, Visit, widened, with_argument
from ptv2_cli.backbones.injection import Slot


def enter(model: nn.Module, slot: Slot) -> None:
    """Hook every attention module and its position scores."""
    for module in model.modules():
        if isinstance(module, DisentangledSelfAttention):
            _hook(module, slot)


def _hook(attention: DisentangledSelfAttention, slot: Slot) -> None:
    visit = Visit(
        attention, attention.key_proj, attention.value_proj, attention.attention_head_size
    )
    own_bias = attention.disentangled_attention_bias

    def begin(module: nn.Module, args: Any, kwargs: Any) -> Arguments:
        length, text = visit.begin(), args[0]
        if not length:
            return args, kwargs
        return with_argument(
            args, kwargs, 1, "attention_mask", lambda mask: widened(slot, mask, length, text)
        )

    def bias(query: Tensor, key: Tensor, *rest: Any, **named: Any) -> Tensor:
        length = key.shape[1] - query.shape[1]
        scores: Tensor = own_bias(query, key[:, length:], *rest, **named)
        return nn.functional.pad(scores, (length, 0))

    attention.register_forward_pre_hook(begin, with_kwargs=True)
    attention.disentangled_attention_bias = bias
