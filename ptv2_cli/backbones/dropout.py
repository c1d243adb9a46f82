"""Dropout of the backbone whose values depend on a trial's seed, step and batch alone.

That holds on a CPU. A trial then drops the same values alone and beside others, and a resumed run
goes on without any saved state. On other devices the global generator serves dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ptv2_cli.rng import RowDraws

_STEPS = 65536
"""A chance is a multiple of 1 / 65536."""


class PassDropout:
    """Draws the dropout of one forward pass, call by call, for each trial that has rows in it."""

    def __init__(self) -> None:
        self.prompts: Sequence[int] | None = None
        """Each trial's prompt length P at the present site; None: equal, or no prompts."""
        self.tables = False
        """Whether the model drops values of tables that have no rows of texts."""
        self._draws: Sequence[RowDraws] | None = None
        self._calls = 0

    @property
    def active(self) -> bool:
        """Whether trials' own draws serve dropout, and not the global generator."""
        return self._draws is not None

    @contextmanager
    def forward(self, draws: Sequence[RowDraws] | None) -> Iterator[None]:
        """Draw the dropout of one forward pass; None: the global generator serves it."""
        self._draws, self._calls, self.prompts = draws, 0, None
        with self._mode():
            yield

    def contexts(
        self,
    ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What gradient checkpointing runs a layer in, and later its recomputation.

        The recomputation counts its calls from the same number as the layer did.
        """
        first = 0

        @contextmanager
        def layer() -> Iterator[None]:
            nonlocal first
            first = self._calls
            yield

        @contextmanager
        def recomputation() -> Iterator[None]:
            calls, self._calls = self._calls, first
            with self._mode():
                yield
            self._calls = calls

        return layer(), recomputation()

    def keep(self, shape: Sequence[int], probability: float) -> Tensor:
        """Which values of the next call stay, bool; only while `active`.

        Args:
            shape: [B, T, ...] or, in attention, [B, N, T, P + T'].
            probability: of a value to be dropped.
        """
        assert self._draws is not None
        call, self._calls = self._calls, self._calls + 1
        drop, whole = _threshold(probability), tuple(shape)
        rows = sum(own.rows for own in self._draws)
        widest = max(own.width for own in self._draws)
        if len(whole) == 2 and whole[0] == rows * widest:  # OPT's tokens in one list
            whole = (rows, widest, whole[1])
        # A tensor without rows serves all trials: DeBERTa's table of relative positions.
        if self._is_table(shape, widest):
            return torch.from_numpy(replace(self._draws[0], first=0).keep(call, tuple(shape), drop))
        if len(self._draws) == 1 or whole[0] != rows:
            return torch.from_numpy(self._draws[0].keep(call, tuple(shape), drop))
        keep = np.ones(whole, np.bool_)
        begin = 0
        for own, columns in zip(self._draws, self._columns(whole, widest), strict=True):
            part = (slice(begin, begin + own.rows), *columns)
            begin += own.rows
            keep[part] = own.keep(call, keep[part].shape, drop)
        return torch.from_numpy(keep.reshape(tuple(shape)))

    def _is_table(self, shape: Sequence[int], widest: int) -> bool:
        """Whether a tensor is a table [n, H] or [1, n, H], not tokens [B, T, H]."""
        wide = len(shape) == 3 and shape[0] == 1 and shape[1] != widest
        return self.tables and (len(shape) == 2 or wide)

    def _columns(self, shape: Sequence[int], widest: int) -> Iterator[list[slice]]:
        """The part of each axis after the first that each trial has alone, without padding.

        Texts are padded at their end to T = `widest`, prompts at their beginning.
        """
        assert self._draws is not None
        lengths = self.prompts or (0,) * len(self._draws)
        longest = max(lengths)
        attention = len(shape) == 4
        for own, length in zip(self._draws, lengths, strict=True):
            parts = [slice(0, size) for size in shape[1:]]
            for axis in (1, 2) if attention else (0,):  # of the tokens
                size = shape[axis + 1]
                if size == widest:
                    parts[axis] = slice(0, own.width)
                elif size == longest + widest:
                    parts[axis] = slice(longest - length, longest + own.width)
                elif axis == 2:  # the keys of a decoder's one token
                    parts[axis] = slice(longest - length, size)
            yield parts

    def _mode(self) -> AbstractContextManager[object]:
        return nullcontext() if self._draws is None else _Replaced(self)


class _Replaced(TorchFunctionMode):
    """Replaces torch's dropout, however a model calls it: as a module or as a function."""

    def __init__(self, source: PassDropout) -> None:
        self._source = source

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.nn.functional.dropout:
            return self._dropout(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _dropout(
        self,
        input: Tensor,  # noqa: A002 (torch's name)
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training or p == 0.0:
            return input
        return drop(input, self._source.keep(input.shape, p), p)


def _threshold(probability: float) -> int:
    return round(probability * _STEPS)


def factors(keep: Tensor, probability: float, dtype: torch.dtype) -> Tensor:
    """1 / (1 - p) for values that stay, 0 for those that are dropped, of the shape of `keep`."""
    kept = 1.0 - _threshold(probability) / _STEPS
    factor = 1.0 / kept if kept else 0.0
    if dtype == torch.bfloat16:
        # numpy has no bf16: the product of the bits with 0 or 1. Several times faster than torch's.
        pattern = torch.tensor(factor, dtype=dtype).view(torch.int16).numpy().view(np.uint16)
        bits = np.multiply(keep.numpy(), pattern, dtype=np.uint16)
        return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    if dtype == torch.float32:
        return torch.from_numpy(np.multiply(keep.numpy(), np.float32(factor)))
    return keep.to(dtype).mul_(factor)


class _Drop(torch.autograd.Function):
    """Keeps a byte a value for backward, instead of a factor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, keep: Tensor, probability: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.probability = probability
        return factors(keep, probability, values.dtype).mul_(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        gradient = gradients[0]
        return factors(keep, ctx.probability, gradient.dtype).mul_(gradient), None, None


def drop(values: Tensor, keep: Tensor, probability: float) -> Tensor:
    """`values` where `keep`, scaled by 1 / (1 - p), and 0 elsewhere."""
    dropped: Tensor = _Drop.apply(values, keep, probability)  # type: ignore[no-untyped-call]
    return dropped
