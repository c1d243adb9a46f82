"""Prompts after the key and value layers of an attention that does not use the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.injection import Injection, injection_of
from ptv2_cli.backbones.sites import KeysValues


class ProjectionHooks:
    """The hooks of one attention module, and the prompts of its current call.

    The module's forward does not change. A hook before it takes the prompts and widens the mask;
    hooks on its key and value layers put the prompt before their output, so that there are P + T
    keys for T queries. If the module needs as many keys as queries (`square`), its input gets P
    more rows, whose keys and values are replaced and whose outputs are cut off.
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
        """Count the call, take its prompts, and return P."""
        injection, name = injection_of(self.attention)
        self.prompt = injection.take(name)
        # A family may call its key layer again for its position table.
        self._expected = {"key", "value"}
        return self.length

    def lengthen(self, text: Tensor) -> Tensor:
        """The input of a square attention [B, T, H] with P rows before it."""
        return nn.functional.pad(text, (0, 0, self.length, 0))

    def _keys(self, output: Tensor) -> Tensor:
        if "key" not in self._expected:
            return output
        self._expected.remove("key")
        injection, text = injection_of(self.attention)[0], self._text_rows(output)
        self._key = text.detach()
        return text if self.prompt is None else before(injection, self.prompt[0], text)

    def _values(self, output: Tensor) -> Tensor:
        if "value" not in self._expected:
            return output
        self._expected.remove("value")
        injection, name = injection_of(self.attention)
        text = self._text_rows(output)
        assert self._key is not None
        key, value = split_heads(self._key, self.size), split_heads(text, self.size)
        injection.record(name, key, value, queries=text.shape[1], causal=False)
        self._key = None
        return text if self.prompt is None else before(injection, self.prompt[1], text)

    def _text_rows(self, output: Tensor) -> Tensor:
        """The rows of a layer's output that belong to the text."""
        return output[:, self.length :] if self.square else output

    def _cut(self, output: Any) -> Any:
        return (output[0][:, self.length :], *output[1:])


def before(injection: Injection, prompt: Tensor, rows: Tensor) -> Tensor:
    """Prompt keys or values [R, K, P, D] before projected rows [B, T, K*D]: [B, P + T, K*D]."""
    flat = prompt.to(rows.dtype).transpose(1, 2).flatten(2)
    return torch.cat([injection.per_row(flat, rows.shape[0]), rows], dim=1)


def split_heads(rows: Tensor, size: int) -> Tensor:
    """[B, T, K*D] -> [B, K, T, D]."""
    return rows.view(*rows.shape[:2], -1, size).transpose(1, 2)


Arguments = tuple[Sequence[Any], Mapping[str, Any]]


def with_argument(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    index: int,
    name: str,
    change: Callable[..., Any],
) -> Arguments:
    """A call's arguments with one changed, whether it was passed by position or by name."""
    if len(args) > index:
        return (*args[:index], change(args[index]), *args[index + 1 :]), kwargs
    return args, {**kwargs, name: change(kwargs.get(name))}


def widened(injection: Injection, mask: Tensor | None, length: int, text: Tensor) -> Tensor | None:
    """The mask of `text` [B, T, H] attending to itself, with `length` prompt columns."""
    return injection.widen(mask, length, text.shape[1], text[:, None], causal=False)


def squared(injection: Injection, mask: Tensor | None, length: int, text: Tensor) -> Tensor | None:
    """The same with `length` more rows, for prompts that pass as rows of the input.

    The outputs of these rows are cut off. They see everything, because a row that sees nothing
    has no softmax.
    """
    wide = widened(injection, mask, length, text)
    if wide is None or wide.shape[2] == 1:
        return wide
    seen = 0.0 if wide.is_floating_point() else True
    return nn.functional.pad(wide, (0, 0, length, 0), value=seen)
