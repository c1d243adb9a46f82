#!/usr/bin/env python3
"""Make the README's table of results: every method at the best of three learning rates.

    PTV2_DATA=FOLDER scripts/results.py [--minutes M] [--only TASK]... [--output DIR]

For each cell (method, prompt length, task) one seed chooses the learning rate on a held-out tenth
of train; then seeds 11-13 train with it and are scored on the official validation split. Finished
runs are skipped, so the script continues where it stopped. With --minutes it starts no cell after
that time, and missing cells are empty in the table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SEARCH_SEED = 10
SEEDS = "11,12,13"
FOLDERS = {"cb": "superglue/CB", "conll2003": "conll2003", "sst2": "sst2", "squad": "squad"}
RATES = {
    "ptuning_v2": {
        "token": "3e-2,6e-2,1e-1",
        "span": "1e-2,3e-2,6e-2",
        "sequence": "5e-3,1e-2,3e-2",
    },
    "prompt_tuning": {
        "token": "3e-3,1e-2,3e-2",
        "span": "3e-3,1e-2,3e-2",
        "sequence": "1e-2,3e-2,1e-1",
    },
    "ptuning_v1": {
        "token": "3e-4,1e-3,3e-3",
        "span": "3e-4,1e-3,3e-3",
        "sequence": "3e-4,1e-3,3e-3",
    },
    "head_only": {
        "token": "3e-3,1e-2,3e-2",
        "span": "1e-3,3e-3,1e-2",
        "sequence": "1e-3,3e-3,1e-2",
    },
    "finetune": {"token": "5e-5,1e-4,2e-4", "span": "5e-5,1e-4,2e-4", "sequence": "5e-5,1e-4,2e-4"},
}
METHODS = (
    ("head_only", None),
    ("ptuning_v2", 20),
    ("finetune", None),
    ("prompt_tuning", 20),
    ("ptuning_v2", 100),
    ("ptuning_v1", 20),
    ("prompt_tuning", 100),
)
"""In the order of their importance for the comparison, because time may not suffice for all."""
EPOCHS = {"cb": 10, "conll2003": 6, "sst2": 3, "squad": 3}
"""The same for every method of a task. All but SQuAD take an evening on two cores."""
KINDS = {"cb": "sequence", "sst2": "sequence", "conll2003": "token", "squad": "span"}


@dataclass(frozen=True)
class Cell:
    """One method on one task."""

    task: str
    method: str
    prompt_len: int | None

    @property
    def name(self) -> str:
        """The name of its runs and sweeps."""
        length = f"-p{self.prompt_len}" if self.prompt_len else ""
        return f"{self.task}-{self.method}{length}"

    @property
    def words(self) -> list[str]:
        """The config and the flags that both sweeps share."""
        data = Path(os.environ["PTV2_DATA"]) / FOLDERS[self.task]
        length = (
            ["--set", f"prompt_len={self.prompt_len}"]
            if self.prompt_len
            else ["--unset", "prompt_len"]
        )
        return [
            str(ROOT / "configs" / f"{self.task}-minilm.yaml"),
            "--offline",
            "--set",
            f"task.data={data}",
            "--set",
            f"method={self.method}",
            "--set",
            f"train.epochs={EPOCHS[self.task]}",
            *length,
        ]


def cells(only: list[str]) -> Iterator[Cell]:
    """All cells, the cheapest task first."""
    for method, length in METHODS:
        for task in only or list(FOLDERS):
            yield Cell(task, method, length)


def sweep(cell: Cell, name: str, output: Path, *words: str) -> None:
    """Run one `ptv2 sweep`; exit if it fails or is stopped."""
    command = [
        "ptv2",
        "sweep",
        *cell.words,
        "--set",
        f"name={name}",
        "--output",
        str(output),
        *words,
    ]
    code = subprocess.run(command).returncode
    if code:
        sys.exit(code)


def best_rate(cell: Cell, output: Path) -> str:
    """Choose the learning rate on a tenth held out of train, with one seed."""
    name = f"{cell.name}-search"
    sweep(
        cell,
        name,
        output,
        *("--set", "selection={split: holdout, fraction: 0.1}", "--set", "report=[holdout]"),
        *("--lr", RATES[cell.method][KINDS[cell.task]], "--seed", str(SEARCH_SEED)),
    )
    (best,) = output.glob(f"sweeps/{name}-*/best.yaml")
    return str(yaml.safe_load(best.read_text(encoding="utf-8"))["train"]["lr"])


def main() -> None:
    """Run the cells as far as time allows, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--only", action="append", choices=list(FOLDERS), default=[])
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "results")
    arguments = parser.parse_args()
    if "PTV2_DATA" not in os.environ:
        sys.exit(
            "PTV2_DATA must name the folder of the data sets: PTV2_DATA=FOLDER scripts/results.py"
        )
    search, final = arguments.output / "search", arguments.output / "final"
    end = time.monotonic() + 60 * arguments.minutes
    for cell in cells(arguments.only):
        if time.monotonic() > end:
            break
        rate = best_rate(cell, search)
        sweep(cell, cell.name, final, "--lr", rate, "--seed", SEEDS)
    subprocess.run(["ptv2", "report", str(final), "--format", "markdown"], check=True)


if __name__ == "__main__":
    main()
