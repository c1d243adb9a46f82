"""DeBERTa (v1) computes queries, keys and values in one layer, so prompts pass as P more rows.

The queries of these rows are zero and their outputs are cut off. Position scores are 0 for prompts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.deberta.modeling_deberta import DisentangledSelfAttention

from ptv2_cli.backbones.adapters.projections import Arguments, split_heads, squared, with_argument
from ptv2_cli.backbones.injection import Injection, injection_of
from ptv2_cli.backbones.sites import KeysValues


def enter(model: nn.Module, injection: Injection) -> None:
    """Hook every attention module and its position scores."""
    for module in model.modules():
        if isinstance(module, DisentangledSelfAttention):
            _convert_biases(module)
            _Rows(module, injection)


def _convert_biases(attention: DisentangledSelfAttention) -> None:
    """Convert two biases that transformers leaves in fp32, with which its forward fails."""
    for bias in (attention.q_bias, attention.v_bias):
        bias.data = bias.data.to(attention.in_proj.weight.dtype)


class _Rows:
    """One attention module and the prompts of its current call."""

    def __init__(self, attention: DisentangledSelfAttention, injection: Injection) -> None:
        self.attention = attention
        self.injection = injection
        self.prompt: KeysValues | None = None
        self._text_bias = attention.disentangled_att_bias
        attention.register_forward_pre_hook(self._begin, with_kwargs=True)
        attention.in_proj.register_forward_hook(self._projected)
        attention.register_forward_hook(self._cut)
        attention.disentangled_att_bias = self._bias

    @property
    def length(self) -> int:
        """P, 0 without prompts."""
        return 0 if self.prompt is None else self.prompt[0].shape[2]

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> Arguments:
        self.prompt = self.injection.take(injection_of(self.attention)[1])
        if self.prompt is None:
            return args, kwargs
        injection, length, text = self.injection, self.length, args[0]
        return with_argument(
            args, kwargs, 1, "attention_mask", lambda mask: squared(injection, mask, length, text)
        )

    def _projected(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """[B, T, N * 3D] -> [B, P + T, N * 3D]."""
        size = self.attention.attention_head_size
        bias = self.attention.v_bias.view(-1, 1, size)  # [N, 1, D]
        _, key, value = split_heads(output, 3 * size).chunk(3, dim=-1)
        name = injection_of(self.attention)[1]
        self.injection.record(name, key, value + bias, queries=output.shape[1], causal=False)
        if self.prompt is None:
            return output
        prompt_keys, prompt_values = self.prompt
        # The module adds its bias to all values: subtract it from those of the prompt.
        parts = [torch.zeros_like(prompt_keys), prompt_keys, prompt_values - bias]
        rows = torch.cat(parts, dim=-1).transpose(1, 2).flatten(2).to(output.dtype)
        return torch.cat([self.injection.per_row(rows, output.shape[0]), output], dim=1)

    def _bias(self, query: Tensor, key: Tensor, *rest: Any, **named: Any) -> Tensor:
        length = self.length
        scores: Tensor = self._text_bias(query[:, :, length:], key[:, :, length:], *rest, **named)
        return nn.functional.pad(scores, (length, 0, length, 0))

    def _cut(self, module: nn.Module, args: Any, output: Any) -> Any:
        return (output[0][:, self.length :], *output[1:])
