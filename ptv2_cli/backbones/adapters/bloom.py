"""Bloom does not use the registry, and adds a bias that grows with the key's position.

The bias is ALiBi (arXiv 2108.12409). With `position_offset: shift` the prompt takes the positions
before the text, as in a cache; with `keep` all of it is at the first position of the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.bloom.modeling_bloom import BloomAttention, build_alibi_tensor

from ptv2_cli.backbones.adapters.projections import Arguments, with_argument
from ptv2_cli.backbones.injection import Injection, injection_of
from ptv2_cli.backbones.sites import KeysValues


def enter(model: nn.Module, injection: Injection) -> None:
    """Hook every attention module and its function that splits heads."""
    for module in model.modules():
        if isinstance(module, BloomAttention):
            _Heads(module, injection)


class _Heads:
    """One attention module and the prompts of its current call."""

    def __init__(self, attention: BloomAttention, injection: Injection) -> None:
        self.attention = attention
        self.injection = injection
        self.prompt: KeysValues | None = None
        self.caches = False
        """Whether the current call keeps keys and values for later tokens."""
        self._split_heads = attention._reshape
        attention.register_forward_pre_hook(self._begin, with_kwargs=True)
        attention._reshape = self._split

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> Arguments:
        self.prompt = self.injection.take(injection_of(self.attention)[1])
        self.caches = False
        if self.prompt is None:
            return args, kwargs
        length, text = self.prompt[0].shape[2], args[0]

        def wide(mask: Tensor | None) -> Tensor | None:
            # Bloom adds its mask, so None (a single token) may stay None.
            return self.injection.widen(mask, length, text.shape[1], text[:, None], causal=False)

        args, kwargs = with_argument(args, kwargs, 2, "alibi", self._biased)
        args, kwargs = with_argument(args, kwargs, 3, "attention_mask", wide)
        return with_argument(args, kwargs, 4, "layer_past", self._cached)

    def _cached(self, cache: Any) -> Any:
        """A cache that holds the text alone and gives it back with the prompt before it."""
        self.caches = cache is not None
        return _TextCache(self, cache) if self.caches else None

    def _biased(self, bias: Tensor) -> Tensor:
        """[B * N, 1, T] -> [B * N, 1, P + T]."""
        assert self.prompt is not None
        length = self.prompt[0].shape[2]
        # The bias of a second token is each head's slope.
        two = torch.ones(1, 2, dtype=torch.long, device=bias.device)
        slopes = build_alibi_tensor(two, self.attention.num_heads, bias.dtype)[:, :, 1:]
        shifted = self.injection.offset.get("self", 0) > 0
        positions = torch.arange(-length, 0, device=bias.device) * shifted
        columns = slopes * positions.to(bias.dtype)
        rows = bias.shape[0] // self.attention.num_heads
        return torch.cat([columns.repeat(rows, 1, 1), bias], dim=2)

    def _split(self, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self._split_heads(fused)
        name = injection_of(self.attention)[1]
        self.injection.record(name, key, value, queries=query.shape[2], causal=True)
        if self.prompt is None or self.caches:
            return query, key, value
        return query, *self.prompted(key, value)

    def prompted(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N, T, D] of the text -> [B, N, P + T, D]."""
        assert self.prompt is not None
        rows = key.shape[0]
        prompt = [self.injection.per_row(part.to(key.dtype), rows) for part in self.prompt]
        return torch.cat([prompt[0], key], dim=2), torch.cat([prompt[1], value], dim=2)


@dataclass(frozen=True)
class _TextCache:
    """What attention reads of a cache, whose own keys and values have no prompt."""

    heads: _Heads
    cache: Any

    def update(self, key: Tensor, value: Tensor, *where: Any) -> tuple[Tensor, Tensor]:
        """Add keys and values of new tokens; all of them, the prompt's first."""
        return self.heads.prompted(*self.cache.update(key, value, *where))
