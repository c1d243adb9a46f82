#!/usr/bin/env python3
"""Rows of several tasks in mixed batches, beside each run by itself: rows a second and memory.

    benchmarks/mixed.py --run RUN --run RUN... [--repeat N] [--batch-size N]

Takes the validation rows of each run's own predictions, shuffled together. Every way is measured
in a process of its own, one after another: one backbone answering mixed batches; the runs one
after another in one process, each loading its backbone and giving it back; and, for memory, all
of them held at once, as a service without sharing would.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SEED = 0


def rows_of(runs: list[Any], repeat: int) -> list[dict[str, Any]]:
    """The runs' validation rows without their answers, each naming its run, shuffled."""
    rows = []
    for run in runs:
        answers = run.task.gold_columns
        for line in run.predictions("validation"):
            row = {key: value for key, value in line["row"].items() if key not in answers}
            rows.append({"task": run.directory.name, **row})
    rows *= repeat
    random.Random(SEED).shuffle(rows)
    return rows


def measured(way: str, paths: list[Path], repeat: int, size: int) -> dict[str, Any]:
    """Seconds of loading and of predicting, and the peak resident set in bytes."""
    from ptv2_cli.data.formats import RawRow
    from ptv2_cli.memory import peak_bytes
    from ptv2_cli.runs.directory import RunDirectory
    from ptv2_cli.runs.prediction.multi_run_predict import MixedRuns
    from ptv2_cli.runs.prediction.predict import Run

    runs = [Run(RunDirectory(path), device="cpu", offline=True) for path in paths]
    rows = rows_of(runs, repeat)
    for run in runs:
        run.resolved  # noqa: B018 - reads the configs, which is no part of either way
    seconds = {"load": 0.0, "predict": 0.0}

    def timed(which: Any, own: list[dict[str, Any]]) -> None:
        records = [RawRow(dict(row), Path("rows"), at) for at, row in enumerate(own, start=1)]
        began = time.perf_counter()
        list(which.chunks(records[:1], size))
        loaded = time.perf_counter()
        list(which.chunks(records, size))
        seconds["load"] += loaded - began
        seconds["predict"] += time.perf_counter() - loaded

    if way == "mixed":
        timed(MixedRuns(runs), rows)
    else:
        held = []
        for run in runs:
            own = [row for row in rows if row["task"] == run.directory.name]
            alone = Run(run.files, device="cpu", offline=True)
            timed(alone, [{k: v for k, v in row.items() if k != "task"} for row in own])
            if way == "held":
                held.append(alone)
    return {"way": way, "rows": len(rows), **seconds, "peak": peak_bytes(runs[0].device)}


def main() -> None:
    """Measure each way in its own process and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, action="append", required=True)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--way", choices=["mixed", "alone", "held"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measured(asked.way, asked.run, asked.repeat, asked.batch_size)))
        return
    print("| way | rows | load s | predict s | rows/s | peak MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    names = {
        "mixed": "one backbone, mixed batches",
        "alone": "one run after another",
        "held": "all runs held, one after another",
    }
    for way, name in names.items():
        command = [sys.executable, *sys.argv, "--way", way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {name} | {found['rows']} | {found['load']:.1f} | {found['predict']:.1f} | "
            f"{found['rows'] / found['predict']:.0f} | {found['peak'] / 1e6:,.0f} |"
        )


if __name__ == "__main__":
    main()
