"""Sites, where prompts may enter a backbone, and the prompts that a method puts there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
"""Prompt keys and values of one site, each [R, K, P, D]; R is 1 (all rows alike) or B."""


class TextBatch(Protocol):
    """What a backbone reads of a batch."""

    @property
    def input_ids(self) -> Tensor:
        """Token ids [B, T]."""

    @property
    def attention_mask(self) -> Tensor:
        """1 for tokens, 0 for padding [B, T]."""

    @property
    def token_type_ids(self) -> Tensor | None:
        """Segment ids [B, T] for models that read them."""

    @property
    def slots(self) -> Tensor | None:
        """Index of the input vector at each position [B, T], -1 for text; None: no template."""


@dataclass(frozen=True)
class Site:
    """One attention call in one forward pass."""

    module: str
    """Dotted name of the attention module in the model."""
    call: int
    """The how-manieth call of that module in the forward pass, from 0."""
    heads: int
    """Key and value heads, K."""
    head_size: int
    """Width of a head, D."""
    causal: bool
    cross: bool

    @property
    def width(self) -> int:
        """Values of one prompt position at this site: keys and values, 2 * K * D."""
        return 2 * self.heads * self.head_size


@dataclass(frozen=True)
class InputVectors:
    """Prompt vectors beside the word embeddings [P, E]."""

    vectors: Tensor
    column: int | None
    """Insert all before this token column; None: fill the batch's `slots`."""


@dataclass(frozen=True)
class Prompts:
    """What a method puts into one forward pass."""

    keys_values: Mapping[int, KeysValues] | None = None
    """Site index -> keys and values."""
    mask: Tensor | None = None
    """Which prompt positions a row sees [R, P], bool; None: all."""
    offset: int = 0
    """Positions by which the text's absolute positions are shifted."""
    inputs: InputVectors | None = None


class Slot:
    """Where the attention function finds the prompts of the forward pass under way.

    Modules are told apart by name and by the number of the call, because one module may serve
    several layers (ALBERT) and `layer_idx` repeats over encoder, decoder and cross attention
    (T5). The prompts stay after the forward pass: gradient checkpointing calls attention again
    during backward, each module's calls in reverse order.
    """

    def __init__(self) -> None:
        self.index: dict[tuple[str, int], int] = {}
        self.recorded: list[Site] | None = None
        self._prompts: Prompts | None = None
        self._calls: dict[str, int] = {}
        self._recomputed: dict[str, int] = {}
        self._in_forward = False
        self._masks: dict[tuple[int, int], tuple[Tensor | None, Tensor | None]] = {}

    def attach(self, model: nn.Module) -> None:
        """Let every module of `model` find this slot and its own name."""
        for name, module in model.named_modules():
            module._ptv2_site = (self, name)

    @contextmanager
    def forward(self, prompts: Prompts | None) -> Iterator[None]:
        """Hold `prompts` for one forward pass and for the recomputation that may follow it."""
        self._prompts = prompts
        self._calls, self._recomputed, self._masks = {}, {}, {}
        self._in_forward = True
        try:
            yield
        finally:
            self._in_forward = False

    def take(self, name: str) -> KeysValues | None:
        """The prompts of module `name` at its present call; counts the call."""
        call = self._count(name)
        if self._prompts is None or self._prompts.keys_values is None:
            return None
        site = self.index.get((name, call))
        return None if site is None else self._prompts.keys_values.get(site)

    def record(self, name: str, key: Tensor, causal: bool, cross: bool) -> None:
        """Note a site while the model is probed."""
        if self.recorded is not None:
            call = sum(site.module == name for site in self.recorded)
            heads, size = key.shape[1], key.shape[3]
            self.recorded.append(Site(name, call, heads, size, causal, cross))

    def widen(self, mask: Tensor | None, length: int, query: Tensor, causal: bool) -> Tensor | None:
        """The attention mask with `length` prompt columns before its own, [B|1, 1, T, P + T'].

        Prompt columns are visible to every query, sliding windows or not, unless the prompts'
        own mask hides them. Layers share masks, so each is widened once per forward pass.
        """
        cached = self._masks.get((id(mask), length))
        if cached is None:
            # The original is kept beside the result, or its id could be given to another tensor.
            cached = (mask, self._widen(mask, length, query, causal))
            self._masks[id(mask), length] = cached
        return cached[1]

    def _widen(
        self, mask: Tensor | None, length: int, query: Tensor, causal: bool
    ) -> Tensor | None:
        visible = None if self._prompts is None else self._prompts.mask
        tokens = query.shape[2]
        if mask is None and not (causal and tokens > 1) and visible is None:
            return None
        if mask is None:
            mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device=query.device)
            mask = mask.tril() if causal else mask
        if visible is None:
            columns = mask.new_ones(1, 1, 1, length, dtype=torch.bool)
        else:
            columns = visible[:, None, None, :]
        if mask.dtype != torch.bool:
            columns = torch.zeros_like(columns, dtype=mask.dtype).masked_fill(
                ~columns, torch.finfo(mask.dtype).min
            )
        rows = max(mask.shape[0], columns.shape[0])
        return torch.cat(
            [
                columns.expand(rows, mask.shape[1], mask.shape[2], length),
                mask.expand(rows, -1, -1, -1),
            ],
            dim=-1,
        )

    def _count(self, name: str) -> int:
        calls = self._calls.get(name, 0)
        if self._in_forward:
            self._calls[name] = calls + 1
            return calls
        again = self._recomputed.get(name, 0)
        self._recomputed[name] = again + 1
        return calls - 1 - again
