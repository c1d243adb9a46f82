"""Stock models whose attention is written out here, with prompts: the reference of parity tests.

Nothing of it comes from the package: scores of the prompt's keys stand before those of the text,
one softmax runs over both, and no position score is added at the prompt, but for Bloom's when the
text is shifted: then the prompt stands in the P places before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MethodType
from typing import Any

import tiny
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoModel
from transformers.masking_utils import eager_mask

from ptv2_cli.backbones.families import FAMILIES

QUEUE: list[tuple[Tensor, Tensor]] = []
"""Keys and values of the attention calls to come, in their order."""
SHARES: list[Tensor] = []
"""What fell on the prompt in the attention calls so far [B, N, T, P]."""


def mixed(
    query: Tensor, key: Tensor, value: Tensor, scale: float, added: Any, at_prompt: Any = 0.0
) -> Tensor:
    """[B, T, N * D]: the prompt that is next in the queue, then the text with `added` scores."""
    prompt_key, prompt_value = (part.expand(len(query), -1, -1, -1) for part in QUEUE.pop(0))
    times = query.shape[1] // key.shape[1]
    prompt_key, prompt_value, key, value = (
        part.repeat_interleave(times, dim=1) for part in (prompt_key, prompt_value, key, value)
    )
    scores = torch.cat([query @ prompt_key.mT, query @ key.mT], dim=-1) * scale
    length = prompt_key.shape[2]
    scores = torch.cat([scores[..., :length] + at_prompt, scores[..., length:] + added], dim=-1)
    weights = scores.softmax(dim=-1)
    SHARES.append(weights[..., :length].detach())
    answer = weights[..., :length] @ prompt_value + weights[..., length:] @ value
    return answer.transpose(1, 2).flatten(2)


def registered(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
    scaling: float | None = None, position_bias: Tensor | None = None, **rest: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """For families that use the attention registry."""
    added = or_zero(mask) + or_zero(position_bias)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    found = mixed(query, key, value, scale, added)
    return found.unflatten(-1, (query.shape[1], -1)), None


AttentionInterface.register("plain", registered)
AttentionMaskInterface.register("plain", eager_mask)


def heads(rows: Tensor, size: int) -> Tensor:
    """[B, T, N * D] -> [B, N, T, D]."""
    return rows.unflatten(-1, (-1, size)).transpose(1, 2)


def or_zero(scores: Tensor | None) -> Any:
    """Scores to add, if any."""
    return 0.0 if scores is None else scores


def minus_infinity(mask: Tensor) -> Tensor:
    """Scores to add for a mask that is 1 for visible."""
    return torch.zeros(mask.shape).masked_fill(~mask.bool(), torch.finfo(torch.float32).min)


def mpnet(self: Any, hidden: Tensor, attention_mask: Any = None, position_bias: Any = None,
          *rest: Any, **more: Any) -> tuple[Tensor]:  # fmt: skip
    size = self.attention_head_size
    parts = [heads(layer(hidden), size) for layer in (self.q, self.k, self.v)]
    return (self.o(mixed(*parts, size**-0.5, position_bias + or_zero(attention_mask))),)


def big_bird(self: Any, hidden: Tensor, attention_mask: Any = None, *rest: Any, **more: Any) -> Any:
    size = self.attention_head_size
    parts = [heads(layer(hidden), size) for layer in (self.query, self.key, self.value)]
    return mixed(*parts, size**-0.5, or_zero(attention_mask)), None


def deberta(self: Any, hidden: Tensor, attention_mask: Tensor, output_attentions: bool = False,
            query_states: Any = None, relative_pos: Any = None, rel_embeddings: Any = None,
            ) -> Any:  # fmt: skip
    size = self.attention_head_size
    query, key, value = heads(self.in_proj(hidden), 3 * size).chunk(3, dim=-1)
    query = query + self.q_bias.view(-1, 1, size)
    value = value + self.v_bias.view(-1, 1, size)
    scale = 1 / math.sqrt(3 * size)
    bias = self.disentangled_att_bias(query * scale, key, relative_pos, rel_embeddings, 3)
    return mixed(query, key, value, scale, bias + minus_infinity(attention_mask)), None


def deberta_v2(self: Any, hidden: Tensor, attention_mask: Tensor, output_attentions: bool = False,
               query_states: Any = None, relative_pos: Any = None, rel_embeddings: Any = None,
               ) -> Any:  # fmt: skip
    layers = (self.query_proj, self.key_proj, self.value_proj)
    parts = [heads(layer(hidden), self.attention_head_size) for layer in layers]
    query, key = (part.flatten(0, 1) for part in parts[:2])
    bias = self.disentangled_attention_bias(query, key, relative_pos, rel_embeddings, 3)
    added = bias.unflatten(0, (len(hidden), -1)) + minus_infinity(attention_mask)
    return mixed(*parts, 1 / math.sqrt(3 * self.attention_head_size), added), None


def bloom(self: Any, hidden: Tensor, residual: Tensor, alibi: Tensor, attention_mask: Any,
          *rest: Any, **more: Any) -> Any:  # fmt: skip
    fused = self.query_key_value(hidden).unflatten(-1, (self.num_heads, 3, self.head_dim))
    parts = [part.transpose(1, 2) for part in fused.unbind(dim=3)]
    bias = alibi.unflatten(0, (len(hidden), -1))
    slopes = bias[:, :, :, 1:2] - bias[:, :, :, :1]
    places = slopes * torch.arange(-self.offset, 0) if self.offset else 0.0
    found = mixed(*parts, self.inv_norm_factor, bias + attention_mask, places)
    return self.dense(found) + residual, None


BY_HAND = {
    "mpnet": ("MPNetSelfAttention", mpnet),
    "big_bird": ("BigBirdSelfAttention", big_bird),
    "deberta": ("DisentangledSelfAttention", deberta),
    "deberta-v2": ("DisentangledSelfAttention", deberta_v2),
    "bloom": ("BloomAttention", bloom),
}


def plain_model(folder: Any, family: str, offset: int = 0) -> Any:
    """The stock model in eval mode; if its forward takes no positions, they start at `offset`."""
    if family not in BY_HAND:
        model = AutoModel.from_pretrained(folder, attn_implementation="plain").eval()
    else:
        more = {"attention_type": "original_full"} if family == "big_bird" else {}
        model = AutoModel.from_pretrained(folder, attn_implementation="eager", **more).eval()
        name, forward = BY_HAND[family]
        for module in model.modules():
            if type(module).__name__ == name:
                module.forward = MethodType(forward, module)
                module.offset = offset
    for name, module in model.named_modules():
        if family == "bart" and name.endswith("embed_positions"):
            module.weight = nn.Parameter(module.weight[offset:])
    return model.requires_grad_(False)


def hidden_states(
    model: Any, family: str, batch: Any, prompts: Sequence[tuple[Tensor, Tensor]], offset: int = 0
) -> Tensor:
    """The model's last hidden states with a prompt for each of its attention calls."""
    inputs: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
    }
    known = FAMILIES[family]
    real = batch.attention_mask
    if known.takes_positions:
        counted = torch.arange(real.shape[1]).expand_as(real)
        # RoBERTa and its kin count from 2 (padding_idx + 1), and padding stands at 1.
        padded = torch.where(real.bool(), counted + 2 + offset, 1)
        inputs["position_ids"] = padded if known.positions == "padded" else counted + offset
    if known.two_stacks and hasattr(model, "decoder"):
        start = model.config.decoder_start_token_id
        inputs["decoder_input_ids"] = torch.full((len(real), 1), start)
    if known.causal:
        inputs["use_cache"] = False
    QUEUE[:], SHARES[:] = prompts, []
    found: Tensor = model(**inputs).last_hidden_state
    assert not QUEUE, "an attention call went by without its prompt"
    return found


def random_values(backbone: Any, length: int) -> list[tuple[Tensor, Tensor]]:
    """Leaves to be differentiated: keys and values of every site."""
    drawn = tiny.random_prompts(backbone, length, seed=3).keys_values
    assert drawn is not None
    return [
        (keys.clone().requires_grad_(), values.clone().requires_grad_())
        for keys, values in drawn.values()
    ]
