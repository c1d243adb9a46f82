#!/usr/bin/env python3
"""Attention on a CPU: ptv2's matrix products beside torch's fused attention, shape by shape.

    python benchmarks/attention.py [--rounds 9]

Milliseconds of processor time of one call, one thread, medians. `training`
is forward and backward with a prompt of 20 before the text; `dropout` the same with 0.1 of the
probabilities dropped; `evaluation` is forward alone. A ratio over 1 means that the products are
faster; `cpu_attention.is_faster` holds the limits that follow from this table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from ptv2_cli.backbones.cpu_attention import attention
from ptv2_cli.backbones.dropout import PassDropout
from ptv2_cli.rng import RowDraws

PROMPT = 20
SHAPES = [
    *((16, 12, 24, 32), (32, 12, 32, 32), (32, 12, 64, 32), (16, 12, 128, 64)),
    *((8, 12, 256, 64), (4, 16, 512, 64)),
]
"""B, N, T, D"""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="only the first N shapes")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| type | rows x heads x tokens x size | way | products, ms | torch, ms | ratio |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for dtype in (torch.bfloat16, torch.float32):
        for shape in SHAPES[: asked.shapes]:
            for way in ("training", "dropout", "evaluation"):
                ours, stock = (median_of(side, asked.rounds) for side in sides(dtype, shape, way))
                sizes = " x ".join(map(str, shape))
                print(
                    f"| {str(dtype).removeprefix('torch.')} | {sizes} | {way} "
                    f"| {ours:.2f} | {stock:.2f} | {stock / ours:.2f} |",
                    flush=True,
                )
    return 0


def sides(
    dtype: torch.dtype, shape: tuple[int, int, int, int], way: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A call of ptv2's attention, and one of torch's on the same values."""
    rows, heads, tokens, size = shape
    draws = torch.Generator().manual_seed(0)

    def values(length: int) -> Tensor:
        # As models have them: heads are a view of the tokens.
        drawn = torch.randn(rows, length, heads, size, generator=draws).to(dtype)
        return drawn.transpose(1, 2).requires_grad_(way != "evaluation")

    query, key, value = values(tokens), values(tokens), values(tokens)
    prompt = values(PROMPT), values(PROMPT)
    visible = torch.ones(rows, 1, tokens, PROMPT + tokens, dtype=torch.bool)
    visible[: rows // 2, ..., -3:] = False
    bias = torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    chance = 0.1 if way == "dropout" else 0.0
    dropout = PassDropout() if chance else None
    leaves = (query, key, value, *prompt)

    def finish(output: Tensor) -> object:
        return output if way == "evaluation" else torch.autograd.grad(output.sum(), leaves)

    def ours() -> object:
        if dropout is None:
            return finish(attention(query, key, value, prompt, bias, None, None, 0.0))
        with dropout.forward([RowDraws(0, 0, 0, rows, tokens)]):
            output = attention(query, key, value, prompt, bias, None, dropout, chance)
        return finish(output)

    def stock() -> object:
        keys, values = torch.cat([prompt[0], key], 2), torch.cat([prompt[1], value], 2)
        return finish(
            torch.nn.functional.scaled_dot_product_attention(
                query, keys, values, attn_mask=visible, dropout_p=chance
            )
        )

    return ours, stock


def median_of(call: Callable[[], object], rounds: int) -> float:
    """Milliseconds of processor time; the first call is not counted."""
    call()
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return 1000 * statistics.median(taken)


if __name__ == "__main__":
    raise SystemExit(main())
