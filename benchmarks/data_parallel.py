#!/usr/bin/env python3
"""One run in one process and in several: seconds, examples a second, memory, equal losses.

    PTV2_DATA=FOLDER python benchmarks/data_parallel.py [--rows N] [--epochs N] [--repeat N]

The run is configs/rte-minilm.yaml on part of RTE. Every way is the real command in processes of
its own; with --repeat the ways change their order from turn to turn. On a CPU, N processes of one
thread have the same cores as one process of N threads: the first two lines of a table are what one
core and N cores do in one process.

Seconds are of the clock, with start and end of the processes; *training* and *eval* are what
metrics.json says. *Difference* is the largest one of a training loss to that of the first way; in
bf16 the backbone rounds batches of other sizes otherwise, so --precision fp32 is the exact test.
Memory is the largest resident set of all processes together, see lanes.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts.processes import carry_out

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "ptv2_cli", "train", str(ROOT / "configs" / "rte-minilm.yaml")]


@dataclass(frozen=True)
class Way:
    """How many processes train the run, and the threads of each."""

    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.processes} x {self.threads}"


@dataclass(frozen=True)
class Measured:
    """What one way took."""

    seconds: float
    peak: int
    metrics: dict[str, Any]
    losses: list[float]

    def row(self, way: Way, base: Measured) -> str:
        """A line of the table."""
        timing = self.metrics["timing"]
        apart = max(abs(a - b) for a, b in zip(self.losses, base.losses, strict=True))
        speed = timing["examples_per_second"]
        return (
            f"| {way} | {self.seconds:.0f} | {timing['train_seconds']:.1f} "
            f"| {timing['eval_seconds']:.1f} | {speed:.1f} "
            f"| {speed / base.metrics['timing']['examples_per_second']:.2f} "
            f"| {self.peak / 2**20:,.0f} | {apart:.1e} "
            f"| {100 * self.metrics['selection']['value']:.1f} |"
        )


def measured(way: Way, sets: list[str]) -> Measured:
    """Train the run in one way."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(way.threads)}
    with tempfile.TemporaryDirectory() as folder:
        words = [*COMMAND, "--output", folder, "--offline", "--device", "cpu"]
        words += ["--devices", str(way.processes), *(f"--set={text}" for text in sets)]
        seconds, peak = carry_out([words], 1, environment, ROOT)
        (run,) = Path(folder).glob("*/metrics.json")
        metrics = json.loads(run.read_text(encoding="utf-8"))
        history = run.with_name("history.jsonl").read_text(encoding="utf-8").splitlines()
    return Measured(seconds, peak, metrics, [json.loads(line)["train_loss"] for line in history])


def main() -> None:
    """Measure every way and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=512, help="train rows (default 512)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs (default 2)")
    parser.add_argument("--repeat", type=int, default=1, help="times each way is measured")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="fp32")
    parser.add_argument("--most", type=int, default=2, help="most processes (default 2)")
    asked = parser.parse_args()
    if "PTV2_DATA" not in os.environ:
        parser.error("PTV2_DATA names the folder of the data sets (superglue/RTE/)")
    sets = [
        f"task.data={Path(os.environ['PTV2_DATA'], 'superglue/RTE').resolve()}",
        f"task.limit={{train: {asked.rows}}}",
        f"train.epochs={asked.epochs}",
        f"train.precision={asked.precision}",
    ]
    counts = [count for count in (1, 2, 4, 8) if count <= asked.most]
    ways = dict.fromkeys([Way(1, 1), Way(1, asked.most), *(Way(count, 1) for count in counts)])
    print(f"rte-minilm: {', '.join(sets[1:])}\n")
    print(
        "| processes x threads | total s | training s | eval s | rows/s | ratio | peak MiB ", end=""
    )
    print("| difference | accuracy |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for turn in range(asked.repeat):
        order = list(ways) if turn % 2 == 0 else list(reversed(ways))
        found = {way: measured(way, sets) for way in order}
        for way in ways:
            print(found[way].row(way, found[Way(1, 1)]), flush=True)


if __name__ == "__main__":
    main()
