"""Attention on a CPU by plain matrix products, where torch's own is slower.

torch's fused attention for CPUs has a slow backward pass in bf16, and with dropout it falls back
to an unfused one that computes masks twice. `benchmarks/attention.py` measures both by shape.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ptv2_cli.backbones.dropout import PassDropout, factors

SCORES = {True: 512 * 1024, False: 256 * 320}
"""Most scores of a head, T * (P + T'), up to which it is faster in bf16; True: with backward.

In fp32 torch's is as fast in training and faster in evaluation. With dropout torch's is slower.
"""
MOST_BYTES = 64 * 2**20
"""Of all heads' scores, which backward keeps; torch's attention keeps none unless it drops some."""


def is_faster(query: Tensor, keys: int, gradient: bool, dropout: bool) -> bool:
    """Whether these products beat torch's attention.

    Args:
        query: [B, N, T, D], already in the type that is computed in.
        keys: P + T'.
        gradient: whether a backward pass follows.
        dropout: whether probabilities are dropped.
    """
    if query.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    rows, heads, length, _ = query.shape
    few = length * keys <= SCORES[gradient] and 2 * rows * heads * length * keys <= MOST_BYTES
    return dropout or (query.dtype == torch.bfloat16 and few)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prompt: tuple[Tensor, Tensor] | None,
    bias: Tensor | None,
    scaling: float | None,
    dropout: PassDropout | None,
    probability: float,
) -> Tensor:
    """softmax(scaling * q k^T + bias) v, over a prompt and the text [B, T, N, D].

    Args:
        query: [B, N, T, D].
        key: of the text [B, K, T', D].
        value: the same.
        prompt: keys and values before those of the text [B, K, P, D].
        bias: what is added to the scores [B|1, N|1, T|1, P + T'].
        scaling: of the scores; None: 1 / sqrt(D).
        dropout: draws which probabilities are dropped; None: all stay.
        probability: of one to be dropped.
    """
    rows, heads, length, size = query.shape
    keep = None
    if dropout is not None:
        columns = key.shape[2] + (0 if prompt is None else prompt[0].shape[2])
        keep = dropout.keep((rows, heads, length, columns), probability)
    scaling = 1.0 / math.sqrt(size) if scaling is None else scaling
    keys, values = prompt if prompt is not None else (None, None)
    attended: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        query, key, value, keys, values, bias, scaling, keep, probability
    )
    return attended


class _Attention(torch.autograd.Function):
    """The heads that share keys are rows of one product: [B*K, G*T, D] with G = N / K."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prompt_keys: Tensor | None,
        prompt_values: Tensor | None,
        bias: Tensor | None,
        scaling: float,
        keep: Tensor | None,
        probability: float,
    ) -> Tensor:
        rows, heads, length, size = query.shape
        groups = key.shape[1]
        with torch.autocast("cpu", enabled=False):
            q = query.reshape(rows * groups, -1, size) * scaling
            k, v = _joined(prompt_keys, key), _joined(prompt_values, value)
            scores = torch.bmm(q, k.transpose(1, 2))
            if bias is not None:
                _add(scores, bias, (rows, heads, length))
            probabilities = torch.softmax(scores, -1)
            dropped = probabilities
            if keep is not None:
                dropped = _factors(keep, probability, probabilities).mul_(probabilities)
            output = torch.bmm(dropped, v)
        ctx.save_for_backward(q, k, v, probabilities, keep)
        ctx.bias = None if bias is None else bias.shape
        ctx.scaling, ctx.probability = scaling, probability
        ctx.shape = (rows, heads, length, size, groups)
        ctx.prompt = 0 if prompt_keys is None else prompt_keys.shape[2]
        return output.view(rows, heads, length, size).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, probabilities, keep = ctx.saved_tensors
        rows, heads, length, size, groups = ctx.shape
        need = ctx.needs_input_grad
        output = gradients[0].transpose(1, 2).reshape(rows * groups, -1, size)
        chances = torch.bmm(output, v.transpose(1, 2))
        dropped = probabilities
        if keep is not None:
            kept = _factors(keep, ctx.probability, probabilities)
            chances.mul_(kept)
            dropped = kept.mul_(probabilities)
        values = _parts(dropped, output, rows, ctx.prompt, text=need[2], prompt=need[4])
        scores = torch._softmax_backward_data(chances, probabilities, -1, probabilities.dtype)
        keys = _parts(scores, q, rows, ctx.prompt, text=need[1], prompt=need[3])
        query = None
        if need[0]:
            query = torch.bmm(scores, k).mul_(ctx.scaling).view(rows, heads, length, size)
        bias = scores.view(rows, heads, length, -1).sum_to_size(ctx.bias) if need[5] else None
        return query, keys[1], values[1], keys[0], values[0], bias, None, None, None


def _joined(prompt: Tensor | None, text: Tensor) -> Tensor:
    """Prompt and text along the tokens [B*K, P + T', D]."""
    whole = text if prompt is None else torch.cat([prompt, text], dim=2)
    return whole.reshape(-1, *whole.shape[2:])


def _add(scores: Tensor, bias: Tensor, shape: tuple[int, int, int]) -> None:
    """Add [B|1, N|1, T|1, P + T'] to the scores [B*K, G*T, P + T'] in place."""
    scores.view(*shape, scores.shape[2]).add_(bias)


def _factors(keep: Tensor, probability: float, like: Tensor) -> Tensor:
    return factors(keep, probability, like.dtype).view_as(like)


def _parts(
    weights: Tensor, given: Tensor, rows: int, length: int, *, text: bool, prompt: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of a prompt's and the text's keys or values: weights^T given.

    Only the prompt's are computed in the lowest layer with a prompt, where the text needs none.

    Args:
        weights: [B*K, G*T, P + T'].
        given: [B*K, G*T, D].
        rows: B.
        length: P.
        text: whether the text's is needed.
        prompt: whether the prompt's is.
    """
    if not text and not prompt:
        return None, None
    first, last = (0 if prompt else length), (None if text else length)
    both = torch.bmm(weights[..., first:last].transpose(1, 2), given)
    both = both.view(rows, -1, *both.shape[1:])
    cut = length if prompt else 0
    return (both[:, :, :cut] if prompt else None), (both[:, :, cut:] if text else None)
