"""Whole runs, from the start of a process to its end, as a user starts them."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import task
from phases import BEGAN

FOLDER = Path(__file__).resolve().parent
COMMAND = "import sys; from ptv2_cli.cli.app import main; sys.exit(main())"
PHASES = ("start", "steps", "evaluation", "saving", "last evaluation", "end")
"""In the order of the table: imports and loading until the first step; the steps; evaluations while
it trains; checkpoints; evaluations after the last step; and all that comes after them."""


@dataclass(frozen=True)
class Way:
    """How the task is trained."""

    name: str
    kind: str
    """ptv2, peft, or floor: steps alone."""
    precision: str = "fp32"
    by_length: bool = True
    aim: float | None = None
    """How many times faster ptv2 should be at the same precision."""

    def command(self, asked: argparse.Namespace, folder: Path) -> list[str]:
        """The command line of one run in a folder of its own."""
        if self.kind == "floor":
            return [sys.executable, str(FOLDER / "floor.py"), *_options(asked, folder)]
        if self.kind == "peft":
            command = [sys.executable, str(FOLDER / "trainer.py"), *_options(asked, folder)]
            command += ["--output", str(folder / "output")]
            command += ["--bf16"] if self.precision == "bf16" else []
            return command + (["--group-by-length"] if self.by_length else [])
        config, phases = folder / "rte.yaml", folder / "phases.json"
        length = {"steps": asked.steps} if asked.steps else {"epochs": asked.epochs}
        tracker = {"name": "phases", "file": str(phases)}
        train = {**length, "precision": self.precision}
        task.write_config(config, asked, train, track=[tracker])
        command = [sys.executable, "-c", COMMAND, "train", str(config), "--offline"]
        command += ["--device", "cpu", "--output", str(folder / "runs")]
        return [*command, "--include", str(FOLDER / "phases_tracker.py")]


@dataclass
class Measured:
    """What the runs of one way took, in seconds, a number for each run."""

    cpu: list[dict[str, float]] = field(default_factory=list)
    """Processor seconds of each run by phase; the phases are the whole run."""
    clock: list[dict[str, float]] = field(default_factory=list)
    """Seconds of the clock, likewise."""
    scores: list[float] = field(default_factory=list)

    def row(self, way: Way, *, cpu: bool) -> str:
        """A line of the table of phases; its last cell is all but the steps, beside the steps."""
        runs = self.cpu if cpu else self.clock
        cells = [f"{statistics.median(run.get(name, 0.0) for run in runs):.1f}" for name in PHASES]
        rest = statistics.median(sum(run.values()) / run["steps"] - 1 for run in runs)
        unit = "CPU" if cpu else "wall"
        return f"| {way.name} | {unit} | {' | '.join(cells)} | {100 * rest:.0f} % |"


def totals(runs: Sequence[Mapping[str, float]]) -> list[float]:
    """Seconds of each run."""
    return [sum(run.values()) for run in runs]


def steps(runs: Sequence[Mapping[str, float]]) -> list[float]:
    """Seconds of each run's steps."""
    return [run["steps"] for run in runs]


def faster(one: Sequence[float], other: Sequence[float]) -> str:
    """How many times faster the first is than the second, run by run; the median."""
    return f"{statistics.median(b / a for a, b in zip(one, other, strict=True)):.2f}"


def ways(precisions: Sequence[str]) -> list[Way]:
    """Everything that is compared."""
    chosen = [Way("floor, fp32, steps alone", "floor")]
    for precision in precisions:
        chosen += [
            Way(f"`ptv2 train`, {precision}", "ptv2", precision),
            Way(f"PEFT + Trainer, {precision}", "peft", precision, by_length=False, aim=3.2),
            Way(f"PEFT + Trainer, by length, {precision}", "peft", precision, aim=2.2),
        ]
    return chosen


def measure(asked: argparse.Namespace) -> dict[str, Measured]:
    """Run every way `repeat` times, in turns."""
    found = {way.name: Measured() for way in ways(asked.precision)}
    with tempfile.TemporaryDirectory() as caches:
        for turn in range(asked.repeat):
            order = ways(asked.precision)
            for way in order if turn % 2 == 0 else list(reversed(order)):
                with tempfile.TemporaryDirectory() as folder:
                    kept = Path(caches if asked.warm else folder)
                    _run(way, asked, Path(folder), kept, found[way.name])
                print(f"run {turn + 1} of {asked.repeat}: {way.name}", file=sys.stderr, flush=True)
    return found


def report(asked: argparse.Namespace, found: Mapping[str, Measured]) -> None:
    """Print the table of whole runs and that of their phases."""
    floor, *others = ways(asked.precision)
    least = statistics.median(steps(found[floor.name].cpu))
    print(
        "| way | wall s | CPU s | x floor | of it steps | accuracy | ptv2 is faster | its steps "
        "| aim |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    print(f"| {floor.name} | | {least:.1f} | 1.00 | {least:.1f} | | | | |")
    for way in others:
        own, mine = found[way.name], found[f"`ptv2 train`, {way.precision}"]
        clock, cpu = statistics.median(totals(own.clock)), statistics.median(totals(own.cpu))
        last = " | | |"
        if way.aim is not None:
            whole = faster(totals(mine.cpu), totals(own.cpu))
            last = f"| {whole} | {faster(steps(mine.cpu), steps(own.cpu))} | >= {way.aim} |"
        print(
            f"| {way.name} | {clock:.1f} | {cpu:.1f} | {cpu / least:.2f} "
            f"| {statistics.median(steps(own.cpu)):.1f} "
            f"| {100 * statistics.fmean(own.scores):.1f} {last}"
        )
    print(f"\n| way | s | {' | '.join(PHASES)} | all but steps / steps |")
    print("| --- | --- |" + " ---: |" * (len(PHASES) + 1))
    for way in others:
        print(found[way.name].row(way, cpu=True))
        print(found[way.name].row(way, cpu=False))


def _run(way: Way, asked: argparse.Namespace, folder: Path, caches: Path, into: Measured) -> None:
    command = way.command(asked, folder)
    began = time.time()
    environment = {
        **os.environ,
        BEGAN: repr(began),
        "PYTHONPATH": f"{FOLDER.parents[1]}{os.pathsep}{FOLDER}",
        "OMP_NUM_THREADS": str(asked.threads),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(caches / "datasets"),
        "PTV2_CACHE": str(caches / "ptv2"),
    }
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, env=environment, stdout=told, stderr=told, text=True)
        _, status, usage = os.wait4(process.pid, 0)
        ended = time.time()
        if status:
            told.seek(0)
            sys.exit(f"{' '.join(command)}:\n{told.read()[-4000:]}")
    content: dict[str, Any] = json.loads((folder / "phases.json").read_text(encoding="utf-8"))
    # What comes after the last phase that the process could see belongs to its end.
    content["clock"]["end"] += ended - began - sum(content["clock"].values())
    content["cpu"]["end"] += usage.ru_utime + usage.ru_stime - sum(content["cpu"].values())
    into.clock.append(content["clock"])
    into.cpu.append(content["cpu"])
    into.scores.append(content["score"])


def _options(asked: argparse.Namespace, folder: Path) -> list[str]:
    """The options that PEFT's script and the floor have in common."""
    options = {
        "--data": asked.data.resolve(),
        "--backbone": asked.folder,
        "--rows": asked.rows,
        "--batch-size": asked.batch_size,
        "--prompt-len": asked.prompt_len,
        "--max-len": asked.max_len,
        "--lr": asked.lr,
        "--seed": asked.seed,
        "--phases": folder / "phases.json",
        **({"--steps": asked.steps} if asked.steps else {"--epochs": asked.epochs}),
    }
    return [word for name, value in options.items() for word in (name, str(value))]
