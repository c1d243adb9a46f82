"""The one attention function and the one mask function that serve every registered family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ptv2_cli.backbones.injection import site_of

NAME = "ptv2"


def prompted_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    position_bias: Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Stock SDPA attention over a site's prompt keys and values and the text's own.

    `query` is [B, N, T, D]; `key` and `value` are [B, K, T', D]; the mask, bool or additive, is
    [B, 1, T, T'] or None. Returns [B, T, N, D]. Without prompts it is the stock function.
    """
    slot, name = site_of(module)
    queries = query.shape[2]
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    slot.note(name, key, value, queries, causal)
    prompt = slot.take(name)
    if prompt is not None:
        prompt_keys, prompt_values = (part.to(key.dtype) for part in prompt)
        rows, length = key.shape[0], prompt_keys.shape[2]
        # Without this the stock function would crop the keys of a causal model to the query.
        attention_mask = slot.widen(attention_mask, length, queries, key, causal)
        causal = False  # the mask says it all, or there is one query, which sees every key
        key = torch.cat([slot.spread(prompt_keys, rows), key], dim=2)
        value = torch.cat([slot.spread(prompt_values, rows), value], dim=2)
        if position_bias is not None:
            position_bias = nn.functional.pad(position_bias, (length, 0))
    output: tuple[Tensor, None] = sdpa_attention_forward(
        module,
        query,
        key,
        value,
        attention_mask,
        position_bias=position_bias,
        is_causal=causal,
        **kwargs,
    )
    return output


AttentionInterface.register(NAME, prompted_attention)
# Without a mask function of the same name the mask would arrive as None: padding attended to.
AttentionMaskInterface.register(NAME, sdpa_mask)
