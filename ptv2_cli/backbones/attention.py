"""The one attention function and the one mask function that serve every registered family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ptv2_cli.backbones import cpu_attention as matmul
from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.backbones.model_code import (
    AttentionInterface,
    AttentionMaskInterface,
    sdpa_attention_forward,
    sdpa_mask,
)
from ptv2_cli.backbones.prefix_memory import read_memory

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
    """Attention over a site's prompt keys and values and the text's own.

    `query` is [B, N, T, D]; `key` and `value` are [B, K, T', D]; the mask, bool or additive, is
    [B, 1, T, T'] or None. Returns [B, T, N, D].
    On a CPU plain products do it where they are faster, else torch's fused attention does.
    """
    injection, name = injection_of(module)
    query, key, value = _autocast(query, key, value)
    queries = query.shape[2]
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    injection.record(name, key, value, queries, causal)
    prompt = injection.take(name)
    length, added, scaling = 0, None, kwargs.get("scaling")
    if prompt is not None:
        rows = key.shape[0]
        keys, values = (injection.per_row(part.to(key.dtype), rows) for part in prompt)
        factors = injection.factors()
        if factors is not None:
            factors = factors.to(key.dtype)[:, None, :, None]
            keys, values = keys * factors, values * factors
        gate = injection.gate(rows)
        if gate is not None:
            added = _gated(query, keys, values, gate, injection.visible(rows), scaling)
            prompt = None
        else:
            prompt, length = (keys, values), keys.shape[2]
    memory = injection.memory()
    if memory is not None:
        remembered = read_memory(query, *memory)
        added = remembered if added is None else added + remembered
    chance = kwargs.get("dropout", 0.0)
    dropping = chance > 0 and injection.dropout.active
    gradient = torch.is_grad_enabled() and (prompt is not None or query.requires_grad)
    own = matmul.is_faster(query, length + key.shape[2], gradient, dropping)
    own = own and (dropping or not chance)  # the global generator serves torch's attention alone
    own = own and injection.watcher is None
    if prompt is not None or (own and attention_mask is None):
        # Without this the stock function would crop the keys of a causal model to the query.
        attention_mask = injection.widen(attention_mask, length, queries, key, causal)
        causal = False  # the mask says it all, or there is one query, which sees every key
    if position_bias is not None:
        position_bias = nn.functional.pad(position_bias, (length, 0))
    if own:
        bias = injection.additive(attention_mask, query.dtype)
        if position_bias is not None:
            bias = position_bias if bias is None else bias + position_bias
        output = matmul.attention(
            query,
            key,
            value,
            prompt,
            bias,
            scaling,
            injection.dropout if dropping else None,
            chance,
        )
    else:
        if prompt is not None:
            key, value = (torch.cat(pair, dim=2) for pair in zip(prompt, (key, value), strict=True))

        def attend(values: Tensor) -> Tensor:
            attended: Tensor = sdpa_attention_forward(
                module,
                query,
                key,
                values,
                attention_mask,
                position_bias=position_bias,
                is_causal=causal,
                **kwargs,
            )[0]
            return attended

        output = attend(value)
        if injection.watcher is not None and injection.site is not None:
            injection.watcher(injection.site, attend, key)
    return output if added is None else output + added, None


def _autocast(*tensors: Tensor) -> Iterator[Tensor]:
    """What autocast makes of the inputs of attention; rotation leaves some models' in fp32."""
    device = tensors[0].device.type
    if torch.is_autocast_enabled(device):
        return (tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
    return iter(tensors)


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
