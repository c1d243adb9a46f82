#!/usr/bin/env python3
"""Rows a second and memory of lanes on one device, by batch size and number of lanes.

    python benchmarks/lanes_device.py [--device cuda|cpu] [--layers N --hidden N ...]

A random model of BERT-large's shape held in bf16, `ptuning_v2` with prompts of 20, rows of 128
tokens; batches of 8, 16 and 32 rows with 1, 2, 4, 8 and 16 lanes through ptv2's own loop, each lane
a trial of its own seed. Only steps are timed: forward, backward, clipping and AdamW.

The share of the peak is counted from what the steps have to compute, with L layers of hidden size
H and F inside, T tokens and P prompt positions (the first layer's input gradient, embeddings and
head are left out of account):

    per row, forward     L * (2 * T * (4 * H * H + 2 * H * F) + 4 * T * (T + P) * H)
    per row, backward    L * (2 * T * (4 * H * H + 2 * H * F) + 8 * T * (T + P) * H)

Frozen weights have no gradient of their own, so backward through a linear layer is one product, as
forward is; both factors of an attention product have one. The peak is that of a square product of
the same type, measured in the same run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from material import write_model, write_rows

if TYPE_CHECKING:
    import torch

    from ptv2_cli.runs.data import Memo
    from ptv2_cli.runs.resolved_run import ResolvedRun
    from ptv2_cli.sweeps.session_pool import SessionPool
    from ptv2_cli.training.events import EvalDone
    from ptv2_cli.training.lane import Lane

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

NEVER = 10**6
"""Steps of a trial: more than are ever taken."""
WARM = 3
"""Steps before the clock starts."""


def main() -> None:
    """Measure every batch size with every number of lanes and print a table."""
    asked = arguments()
    import torch

    from ptv2_cli.errors import out_of_memory
    from ptv2_cli.runs.build import choose_device
    from ptv2_cli.runs.data import Memo
    from ptv2_cli.sweeps.session_pool import SessionPool, free

    device = choose_device(asked.device)
    peak = matrix_peak(device, asked.square)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(
        f"{name}, torch {torch.__version__}: {peak / 1e12:.1f} TFLOP/s in a square bf16 product\n"
    )
    print(
        "| rows of a lane | lanes | rows/s | times the first | ms a step | peak MiB | of the peak |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_material(Path(folder), asked)
        pool, memo = SessionPool(device), Memo()
        for size in asked.batch:
            plain: float | None = None
            for lanes in asked.lanes:
                chosen = resolved_runs(Path(folder), size, lanes, memo)
                try:
                    seconds, held = measured(chosen, pool, asked.steps)
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                    print(f"| {size} | {lanes} | out of memory | | | | |", flush=True)
                else:
                    rate = size * lanes / seconds
                    plain = plain or rate
                    share = rate * flops(asked) / peak
                    print(
                        f"| {size} | {lanes} | {rate:,.1f} | {rate / plain:.2f} "
                        f"| {1000 * seconds:,.1f} | {held / 2**20:,.0f} | {100 * share:.1f} % |",
                        flush=True,
                    )
                for resolved_run in chosen:
                    pool.close(resolved_run)
                free(device)


def arguments() -> argparse.Namespace:
    """The command line; the defaults are BERT-large's shape."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:N or cpu")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--inside", type=int, default=4096, help="of the feed-forward layers")
    parser.add_argument("--tokens", type=int, default=128, help="of a row")
    parser.add_argument("--prompt-len", type=int, default=20)
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16, 32], help="rows of a lane")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--steps", type=int, default=15, help="steps that are timed")
    parser.add_argument("--square", type=int, default=8192, help="side of the measured product")
    return parser.parse_args()


def write_material(folder: Path, asked: argparse.Namespace) -> None:
    """A random model, rows that fill every token, a config."""
    shape = {
        "hidden_size": asked.hidden,
        "num_hidden_layers": asked.layers,
        "num_attention_heads": asked.heads,
        "intermediate_size": asked.inside,
    }
    write_model(folder / "model", "bert", "bfloat16", shape)
    write_rows(folder, 8 * max(asked.batch), asked.tokens)
    (folder / "config.yaml").write_text(
        f"method: ptuning_v2\nbackbone: {{name: {folder}/model, dtype: bf16}}\n"
        f"prompt_len: {asked.prompt_len}\n"
        f"task: {{name: text/classification, data: {folder}, text: [text], label: label, "
        f"max_len: {asked.tokens}}}\n"
        f"train: {{lr: 1e-3, steps: {NEVER}, eval_every: {NEVER}, precision: bf16}}\n"
    )


def resolved_runs(folder: Path, size: int, lanes: int, memo: Memo) -> list[ResolvedRun]:
    """Trials that differ in their seed alone."""
    from ptv2_cli.config.load import load_config, parse_set
    from ptv2_cli.runs.resolved_run import prepare

    found = []
    for seed in range(11, 11 + lanes):
        sets = [parse_set(f"train.batch_size={size}"), parse_set(f"train.seed={seed}")]
        loaded = load_config(folder / "config.yaml", sets)
        found.append(prepare(loaded, folder / "runs", offline=True, memo=memo))
    return found


def measured(chosen: Sequence[ResolvedRun], pool: SessionPool, steps: int) -> tuple[float, int]:
    """Seconds of a step of all trials together, and the most bytes that were held."""
    from ptv2_cli.multiplex import Sharing
    from ptv2_cli.training.loop import fit

    def evaluate(lanes: Sequence[Lane]) -> list[EvalDone]:
        raise AssertionError("no evaluation is due")

    sessions = [pool.open(resolved_run) for resolved_run in chosen]
    lanes = [session.new_lane() for session in sessions]
    device = pool.device
    reset(device)
    began = time.perf_counter()
    for done, _ in enumerate(fit(lanes, Sharing(), evaluate), start=1):
        if done == WARM:
            began = clock(device)
        if done == WARM + steps:
            break
    return (clock(device) - began) / steps, held(device)


def flops(asked: argparse.Namespace) -> float:
    """What a row has to compute in a step, forward and backward."""
    linear = 2 * asked.tokens * (4 * asked.hidden**2 + 2 * asked.hidden * asked.inside)
    attention = 4 * asked.tokens * (asked.tokens + asked.prompt_len) * asked.hidden
    return float(asked.layers * (2 * linear + 3 * attention))


def matrix_peak(device: torch.device, side: int) -> float:
    """Operations per second of a square bf16 product, the best of several rounds."""
    import torch

    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    rounds, best = (10, float("inf")) if device.type == "cuda" else (1, float("inf"))
    for _ in range(6):
        began = clock(device)
        for _ in range(rounds):
            one @ one
        best = min(best, (clock(device) - began) / rounds)
    return float(2 * side**3 / best)


def clock(device: torch.device) -> float:
    """Seconds, once all that was asked of the device is done."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset(device: torch.device) -> None:
    """Forget the peak so far."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        from memory import reset_peak

        reset_peak()


def held(device: torch.device) -> int:
    """The most bytes since `reset`: the allocator's on CUDA, the resident set on the CPU."""
    from ptv2_cli.runs.environment import peak_bytes

    return peak_bytes(device)


if __name__ == "__main__":
    main()
