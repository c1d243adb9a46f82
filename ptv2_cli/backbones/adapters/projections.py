"""Prompts behind an attention's own key and value layers, for attention that has no registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.injection import Slot, site_of
from ptv2_cli.backbones.sites import KeysValues


class Visit:
    """One attention module and the prompts of its call under way.

    The module's own forward stays as it is: a hook before it takes the prompts and widens the
    mask, hooks on its key and value layers put prompt rows before theirs, so that there are
    P + T keys for T queries. Where the module wants as many keys as queries (`square`), its
    input gets P more rows, whose keys and values are replaced and whose answers are cut off.
    """

    def __init__(
        self,
        attention: nn.Module,
        key: nn.Module,
        value: nn.Module,
        size: int,
        *,
        square: bool = False,
    ) -> None:
        self.attention = attention
        self.size = size
        self.square = square
        self.prompt: KeysValues | None = None
        self._key: Tensor | None = None
        self._expected: set[str] = set()
        key.register_forward_hook(lambda module, args, output: self._keys(output))
        value.register_forward_hook(lambda module, args, output: self._values(output))
        if square:
            attention.register_forward_hook(lambda module, args, output: self._cut(output))

    @property
    def length(self) -> int:
        """P, 0 without prompts."""
        return 0 if self.prompt is None else self.prompt[0].shape[2]

    def begin(self) -> int:
        """Count the call and take its prompts; returns P."""
        slot, name = site_of(self.attention)
        self.prompt = slot.take(name)
        # A family may use its key layer for its position table too, later in the same call.
        self._expected = {"key", "value"}
        return self.length

    def lengthen(self, text: Tensor) -> Tensor:
        """The input of a square attention [B, T, H] with P rows before it."""
        return nn.functional.pad(text, (0, 0, self.length, 0))

    def _keys(self, output: Tensor) -> Tensor:
        if "key" not in self._expected:
            return output
        self._expected.remove("key")
        slot, own = site_of(self.attention)[0], self._own(output)
        self._key = own.detach()
        return own if self.prompt is None else before(slot, self.prompt[0], own)

    def _values(self, output: Tensor) -> Tensor:
        if "value" not in self._expected:
            return output
        self._expected.remove("value")
        slot, name = site_of(self.attention)
        own = self._own(output)
        assert self._key is not None
        key, value = split_heads(self._key, self.size), split_heads(own, self.size)
        slot.note(name, key, value, queries=own.shape[1], causal=False)
        self._key = None
        return own if self.prompt is None else before(slot, self.prompt[1], own)

    def _own(self, output: Tensor) -> Tensor:
        """The text's rows of what a layer gave."""
        return output[:, self.length :] if self.square else output

    def _cut(self, output: Any) -> Any:
        return (output[0][:, self.length :], *output[1:])


def before(slot: Slot, prompt: Tensor, rows: Tensor) -> Tensor:
    """Prompt keys or values [R, K, P, D] before projected rows [B, T, K*D]: [B, P + T, K*D]."""
    flat = prompt.to(rows.dtype).transpose(1, 2).flatten(2)
    return torch.cat([slot.spread(flat, rows.shape[0]), rows], dim=1)


def split_heads(rows: Tensor, size: int) -> Tensor:
    """[B, T, K*D] -> [B, K, T, D]."""
    return rows.view(*rows.shape[:2], -1, size).transpose(1, 2)


Arguments = tuple[Sequence[Any], Mapping[str, Any]]


def with_argument(
    args: Sequence[Any], kwargs: Mapping[str, Any], at: int, name: str, change: Callable[..., Any]
) -> Arguments:
    """A call's arguments with one changed, given by its place or by its name."""
    if len(args) > at:
        return (*args[:at], change(args[at]), *args[at + 1 :]), kwargs
    return args, {**kwargs, name: change(kwargs.get(name))}


def widened(slot: Slot, mask: Tensor | None, length: int, text: Tensor) -> Tensor | None:
    """The mask of `text` [B, T, H] attending to itself, with `length` prompt columns."""
    return slot.widen(mask, length, text.shape[1], text[:, None], causal=False)


def squared(slot: Slot, mask: Tensor | None, length: int, text: Tensor) -> Tensor | None:
    """The same with as many rows, for prompts that pass as rows of the input.

    What those rows see does not matter, as their answers are cut off; they see everything, since
    a row that sees nothing would have no softmax.
    """
    wide = widened(slot, mask, length, text)
    if wide is None or wide.shape[2] == 1:
        return wide
    seen = 0.0 if wide.is_floating_point() else True
    return nn.functional.pad(wide, (0, 0, length, 0), value=seen)
