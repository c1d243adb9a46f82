#!/usr/bin/env python3
"""Eight trials as lanes of one backbone, one after another, and as processes two at a time.

    PTV2_DATA=FOLDER python benchmarks/lanes.py [--task cb|conll2003] [--exact] [--repeat N]

The trials are a small sweep of MiniLM with P-tuning v2: four prompt lengths, two learning rates;
CB with all rows, CoNLL-2003 with 500 sentences to train and 200 to choose by. Every way is the real
command in processes of its own; with --repeat the ways change their order from turn to turn.
`ptv2 sweep` includes its estimate, as its users wait for it too.

Seconds are of the clock; *training* is what metrics.json says of all trials, added up. Memory is
the largest resident set of all processes that run at one time: their own pages added up, pages of
files (libraries, weights), which they share, counted once, as in the process that has most of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts.processes import carry_out

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "import sys; from ptv2_cli.cli.app import main; sys.exit(main())"
LENGTHS = (10, 20, 40, 80)
EXACT = ["backbone.dropout=off", "train.precision=fp32"]


@dataclass(frozen=True)
class Material:
    """What is swept."""

    config: str
    folder: str
    rates: tuple[str, str]
    epochs: int
    rows: int
    validation: int


TASKS = {
    "cb": Material("cb-minilm", "superglue/CB", ("1e-2", "3e-2"), 2, 250, 56),
    "conll2003": Material("conll2003-minilm", "conll2003", ("3e-2", "6e-2"), 3, 500, 200),
}
Key = tuple[int, float]
"""Prompt length and learning rate of a trial."""


@dataclass(frozen=True)
class Way:
    """How the trials are carried out."""

    name: str
    swept: bool
    """By one `ptv2 sweep`, or each by a `ptv2 train`."""
    at_once: int = 1
    """Trials at a time, in one process or as processes."""


WAYS = {
    "lanes": Way("`ptv2 sweep --lanes 8`", True, 8),
    "sweep": Way("`ptv2 sweep`, one after another", True),
    "train": Way("`ptv2 train` eight times, one after another", False),
    "pairs": Way("`ptv2 train` eight times, two at a time", False, 2),
}


@dataclass
class Measured:
    """What one way took and reached."""

    seconds: float
    peak: int
    trials: dict[Key, dict[str, Any]]
    """metrics.json of every trial."""

    @property
    def training(self) -> float:
        """Seconds of steps and evaluations of all trials."""
        timings = [metrics["timing"] for metrics in self.trials.values()]
        return float(sum(at["train_seconds"] + at["eval_seconds"] for at in timings))

    @property
    def scores(self) -> dict[Key, float]:
        """The chosen epoch's score of every trial."""
        return {key: metrics["selection"]["value"] for key, metrics in self.trials.items()}

    def row(self, way: str, plain: Measured) -> str:
        """A line of the table."""
        best = max(sorted(self.scores), key=lambda key: self.scores[key])
        same = sum(self.scores[key] == plain.scores[key] for key in self.scores)
        mean = sum(self.scores.values()) / len(self.scores)
        return (
            f"| {way} | {self.seconds:.0f} | {self.seconds / plain.seconds:.2f} "
            f"| {self.training:.0f} | {self.peak / 2**20:,.0f} | {100 * mean:.1f} "
            f"| {100 * self.scores[best]:.1f} (length {best[0]}, {best[1]:g}) | {same} |"
        )


def commands(way: Way, material: Material, sets: Sequence[str], output: Path) -> list[list[str]]:
    """The commands of one way."""
    start = [sys.executable, "-c", COMMAND]
    tail = [str(ROOT / "configs" / f"{material.config}.yaml"), "--output", str(output)]
    tail += ["--offline", "--device", "cpu", *(f"--set={text}" for text in sets)]
    if way.swept:
        lists = ["--prompt-len", ",".join(map(str, LENGTHS)), "--lr", ",".join(material.rates)]
        return [[*start, "sweep", *tail, *lists, "--lanes", str(way.at_once)]]
    values = itertools.product(LENGTHS, material.rates)
    return [[*start, "train", *tail, "--prompt-len", str(n), "--lr", lr] for n, lr in values]


def measured(way: Way, material: Material, sets: Sequence[str]) -> Measured:
    """Carry the trials out in one way."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("OMP_NUM_THREADS", None)
    if not way.swept and way.at_once > 1:
        cores = os.cpu_count() or way.at_once
        environment["OMP_NUM_THREADS"] = str(max(1, cores // way.at_once))
    with tempfile.TemporaryDirectory() as folder:
        asked = commands(way, material, sets, Path(folder))
        seconds, peak = carry_out(asked, 1 if way.swept else way.at_once, environment, ROOT)
        trials = {}
        for path in Path(folder).glob("*/metrics.json"):
            found = json.loads(path.read_text(encoding="utf-8"))
            trials[(found["prompt_len"], found["config"]["train"]["lr"])] = found
    if len(trials) != len(LENGTHS) * len(material.rates):
        sys.exit(f"only {len(trials)} trials have finished")
    return Measured(seconds, peak, trials)


def settings(material: Material, asked: argparse.Namespace) -> list[str]:
    """The --set of every command."""
    data = Path(os.environ["PTV2_DATA"], material.folder).resolve()
    rows = asked.rows or material.rows
    return [
        f"task.data={data}",
        f"task.limit={{train: {rows}, validation: {min(rows, material.validation)}}}",
        f"train.epochs={asked.epochs or material.epochs}",
        *([f"train.batch_size={asked.batch_size}"] if asked.batch_size else []),
        *(EXACT if asked.exact else []),
    ]


def main() -> None:
    """Measure every way and print a table for each task; with --exact, compare the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=list(TASKS), action="append", help="default: all")
    parser.add_argument("--without", choices=["train", "pairs"], action="append", default=[])
    parser.add_argument("--exact", action="store_true", help="fp32 and backbone.dropout=off")
    parser.add_argument("--repeat", type=int, default=1, help="times each way is measured")
    parser.add_argument("--epochs", type=int, help="epochs of a trial (default by task)")
    parser.add_argument("--rows", type=int, help="rows to train on (default by task)")
    parser.add_argument("--batch-size", type=int, help="rows of a batch (default by task)")
    asked = parser.parse_args()
    if "PTV2_DATA" not in os.environ:
        parser.error("PTV2_DATA names the folder of the data sets (superglue/CB/, conll2003/)")
    ways = [way for way in WAYS if way not in asked.without]
    unequal = False
    for task in asked.task or TASKS:
        sets = settings(TASKS[task], asked)
        print(f"\n{TASKS[task].config}: {', '.join(sets[1:])}\n")
        print("| way | total s | ratio | training s | peak MiB | mean | best | equal scores |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |", flush=True)
        for turn in range(asked.repeat):
            order = ways if turn % 2 == 0 else list(reversed(ways))
            found = {way: measured(WAYS[way], TASKS[task], sets) for way in order}
            for way in ways:
                print(found[way].row(WAYS[way].name, found["sweep"]), flush=True)
            unequal |= found["lanes"].scores != found["sweep"].scores
    if asked.exact and unequal:
        sys.exit("the lanes' scores are not those of the trials alone")


if __name__ == "__main__":
    main()
