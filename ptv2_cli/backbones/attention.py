"""The one attention function and the one mask function that serve every registered family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.backbones.model_code import (
    AttentionInterface,
    AttentionMaskInterface,
    sdpa_attention_forward,
    sdpa_mask,
)

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
    injection, name = injection_of(module)
    queries = query.shape[2]
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    injection.record(name, key, value, queries, causal)
    prompt = injection.take(name)
    added = None
    if prompt is not None:
        rows, length = key.shape[0], prompt[0].shape[2]
        prompt_keys, prompt_values = (
            injection.per_row(part.to(key.dtype), rows) for part in prompt
        )
        gate = injection.gate(rows)
        if gate is not None:
            mask = injection.visible(rows)
            added = _gated(query, prompt_keys, prompt_values, gate, mask, kwargs.get("scaling"))
    if prompt is not None and added is None:
        # Without this the stock function would crop the keys of a causal model to the query.
        attention_mask = injection.widen(attention_mask, length, queries, key, causal)
        causal = False  # the mask says it all, or there is one query, which sees every key
        key = torch.cat([prompt_keys, key], dim=2)
        value = torch.cat([prompt_values, value], dim=2)
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
    return output if added is None else (output[0] + added, None)


def _gated(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    gate: Tensor,
    visible: Tensor | None,
    scaling: float | None,
) -> Tensor:
    """What the prompt alone gives to each query, times the gate of each head [B, T, N, D].

    LLaMA-Adapter (arXiv 2303.16199, section 3.2).

    Args:
        query: [B, N, T, D].
        keys: of the prompt [B, K, P, D].
        values: the same.
        gate: of each key and value head [B, K].
        visible: which prompt positions a row sees [B, P]; None: all.
        scaling: of the scores; None: 1 / sqrt(D).
    """
    attended = nn.functional.scaled_dot_product_attention(
        query,
        keys,
        values,
        attn_mask=None if visible is None else visible[:, None, None, :],
        scale=scaling,
        enable_gqa=query.shape[1] != keys.shape[1],
    )
    factors = gate.repeat_interleave(query.shape[1] // keys.shape[1], dim=1).to(attended.dtype)
    return (attended * factors[..., None, None]).transpose(1, 2)


def text_mask(*args: Any, device: torch.device | str = "cpu", **kwargs: Any) -> Tensor | None:
    """The stock SDPA mask, bool [B, 1, T, T'].

    On the CPU it is None where no row is padded. To see that on another device, every forward
    pass would wait for it.
    """
    if torch.device(device).type != "cpu" and kwargs.get("attention_mask") is not None:
        kwargs |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    mask: Tensor | None = sdpa_mask(*args, device=device, **kwargs)
    return mask


AttentionInterface.register(NAME, prompted_attention)
# Without a mask function of the same name the mask would arrive as None: padding attended to.
AttentionMaskInterface.register(NAME, text_mask)
