#!/usr/bin/env python3
"""ptv2 beside PEFT with transformers' Trainer, full fine-tuning, and the floor of all of them.

    PTV2_DATA=FOLDER python benchmarks/peers/peers.py steps [--only WORD] [--json FILE]
    PTV2_DATA=FOLDER python benchmarks/peers/peers.py whole [--steps N] [--repeat N]
                                                            [--precision WORD]

The *floor* is the least that training prompts in every layer can cost with stock code: forward and
backward of the frozen model without prompts, in fp32, dropout off, batches of rows of nearly equal
length. All sides train MiniLM on the same rows of RTE, prompt length 20, batches of 32, one thread.

`steps`: all sides in one process take their steps in turns, batch by batch. Times are processor
time. Sides whose batches have the floor's rows are compared batch by batch, the others with the
mean of the floor's batches in the same round; given are the median and the quartiles of all these
ratios. The first step of each side is not counted. `sides.py` says what a step includes.

`whole`: a run from the start of its process to its end, the ways in turns: `ptv2 train`, and
`trainer.py`, a script for PEFT and transformers' Trainer as their documentation writes it,
with rows in random order and grouped by length. Both evaluate all validation rows after each epoch
and save checkpoints. The floor takes the same number of steps; only these are counted. Every run
has empty caches (with --warm: those of the runs before).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import task
import whole_runs

if TYPE_CHECKING:
    from sides import Side

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
NEVER = 10**6
"""Steps of a run: more than are ever taken."""


@dataclass(frozen=True)
class Figures:
    """What the steps of one side took."""

    name: str
    ms: float
    """Mean over the batches of a round, median over the rounds; milliseconds of processor time."""
    ratio: float
    """Median of its steps, each as a multiple of the floor's."""
    low: float
    """The quartile below the median."""
    high: float
    """The quartile above the median."""
    aim: float | None


def compare(
    side: Side, times: Sequence[Sequence[float]], floor: Sequence[Sequence[float]]
) -> Figures:
    """The figures of a side; `times` and `floor` are seconds by round and batch."""
    ratios = []
    for own, least in zip(times, floor, strict=True):
        mean = statistics.fmean(least)
        bases = least if side.by_length else [mean] * len(own)
        ratios += [mine / base for mine, base in zip(own, bases, strict=True)]
    low, ratio, high = quartiles(ratios)
    ms = 1000 * statistics.median(statistics.fmean(own) for own in times)
    return Figures(side.name, ms, ratio, low, high, side.aim)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def row(figures: Figures) -> str:
    """A line of the table."""
    aim = "" if figures.aim is None else f"<= {figures.aim:.2f}"
    return (
        f"| {figures.name} | {figures.ms:,.0f} | {figures.ratio:.2f} "
        f"| {figures.low:.2f}-{figures.high:.2f} | {aim} |"
    )


def take_turns(sides: Sequence[Side], material: Any, rounds: int) -> dict[str, list[list[float]]]:
    """Processor seconds of every step after the first, by side, round and batch."""
    import torch

    steps = {side.name: side.build(material) for side in sides}
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    batches = len(material.sorted_batches)
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(1 + rounds * batches):
        # The order changes, so that no side always comes after the same other one.
        for side in sides if turn % 2 == 0 else list(reversed(sides)):
            began = time.process_time()
            steps[side.name](turn % batches)
            times[side.name].append(time.process_time() - began)
        print(f"turn {turn} of {rounds * batches}", file=sys.stderr, flush=True)
    return {
        name: [counted[at : at + batches] for at in range(1, len(counted), batches)]
        for name, counted in times.items()
    }


def steps(asked: argparse.Namespace) -> None:
    """Measure the steps of all sides and print a table."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import sides
    import torch

    chosen = [
        side
        for side in sides.SIDES
        if side.name == "floor" or not asked.only or any(word in side.name for word in asked.only)
    ]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "rte.yaml")
        task.write_config(config, asked, {"steps": NEVER, "eval_every": NEVER})
        torch.set_num_threads(1)
        material = sides.material(config)
        times = take_turns(chosen, material, asked.rounds)
    found = [compare(side, times[side.name], times["floor"]) for side in chosen]
    print(
        f"{asked.rows} rows in batches of {asked.batch_size}, {asked.rounds} rounds, "
        f"prompt length {asked.prompt_len}, one thread, torch {torch.__version__}\n"
    )
    print("| side | ms a step | x floor | quartiles | aim |")
    print("| --- | ---: | ---: | --- | ---: |")
    for figures in found:
        print(row(figures))
    if asked.json:
        content = {"figures": [asdict(figures) for figures in found], "seconds": times}
        asked.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


def whole(asked: argparse.Namespace) -> None:
    """Measure whole runs and print tables."""
    found = whole_runs.measure(asked)
    threads = "1 thread" if asked.threads == 1 else f"{asked.threads} threads"
    length = f"{asked.steps} steps" if asked.steps else f"{asked.epochs} epoch(s)"
    print(f"{asked.rows} rows, {length}, batches of {asked.batch_size}, {threads}\n")
    whole_runs.report(asked, found)
    if asked.json:
        content = {name: asdict(measured) for name, measured in found.items()}
        asked.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("steps", help="processor time of a step, in turns")
    one.add_argument("--only", action="append", help="sides whose name holds this; repeatable")
    one.add_argument("--rounds", type=int, default=2, help="passes over the rows (default 2)")
    task.add_options(one, rows=128)
    one.set_defaults(run=steps)
    two = commands.add_parser("whole", help="whole runs in processes of their own")
    two.add_argument("--epochs", type=int, default=1)
    two.add_argument("--steps", type=int, help="in place of --epochs")
    two.add_argument("--repeat", type=int, default=1, help="runs of each way (default 1)")
    two.add_argument("--precision", nargs="+", choices=["bf16", "fp32"], default=["bf16"])
    two.add_argument("--threads", type=int, default=1, help="of every run (default 1)")
    two.add_argument("--warm", action="store_true", help="keep caches from run to run")
    task.add_options(two, rows=1200)
    two.set_defaults(run=whole)
    for command in (one, two):
        command.add_argument("--json", type=Path, help="write all figures to this file")
    return task.finish(parser, parser.parse_args())


def main() -> None:
    """Measure what the command line asks for."""
    asked = arguments()
    asked.run(asked)


if __name__ == "__main__":
    main()
