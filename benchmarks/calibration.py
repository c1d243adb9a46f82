#!/usr/bin/env python3
"""Zero-shot answers of a language model: as they are, and with each way of calibration.

    PTV2_DATA=FOLDER python benchmarks/calibration.py --backbone MODEL [--tasks sst2,rte,cb,boolq]
        [--rows 100] [--demonstrations 0]

Each line is a run of `method: none` with `head: verbalizer`: accuracy on the first rows of
validation with its standard error, and the share of the most frequent answer. The lines with a
formula divide or subtract another prior, from the probabilities of the first run: they show what
the choice among the formulas of the papers means.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import ptv2_cli

TASKS = {
    "sst2": "glue/sst2",
    "rte": "superglue/rte",
    "cb": "superglue/cb",
    "boolq": "superglue/boolq",
}
FOLDERS = {"sst2": "sst2", "rte": "superglue/RTE", "cb": "superglue/CB", "boolq": "superglue/BoolQ"}
ROWS = {"sst2": 200, "rte": 100, "cb": 56, "boolq": 100}
WAYS = (None, "contextual", "batch")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--tasks", default="sst2", help="of sst2, rte, cb, boolq")
    parser.add_argument("--rows", type=int, help="rows of validation; default: 56 to 200, by task")
    parser.add_argument("--demonstrations", type=int)
    asked = parser.parse_args()
    print("| task | rows | calibrate | accuracy | most frequent answer |")
    print("| --- | ---: | --- | ---: | --- |")
    for name in asked.tasks.split(","):
        rows = asked.rows or ROWS[name]
        plain: list[dict[str, Any]] = []
        for way in WAYS:
            lines = answered(asked, name, rows, way)
            plain = plain or lines
            right = [line["prediction"]["label"] == line["gold"] for line in lines]
            answers = [line["prediction"]["label"] for line in lines]
            show(name, way or "no", right, answers)
        for formula, answers in others(plain).items():
            right = [a == line["gold"] for a, line in zip(answers, plain, strict=True)]
            show(name, formula, right, answers)
    return 0


def answered(
    asked: argparse.Namespace, name: str, rows: int, way: str | None
) -> list[dict[str, Any]]:
    """The predictions of a run with a way of calibration."""
    config = {
        "method": "none",
        "backbone": {"name": asked.backbone, "dtype": asked.dtype},
        "task": {
            "name": TASKS[name],
            "data": str(Path(os.environ["PTV2_DATA"]) / FOLDERS[name]),
            "limit": {"train": 500, "validation": rows},
            "demonstrations": asked.demonstrations,
            "max_len": 256 if asked.demonstrations is None else 1024,
        },
        "head": {"name": "verbalizer", "calibrate": way},
        "train": {"seed": 11},
    }
    with tempfile.TemporaryDirectory() as folder:
        return ptv2_cli.train(config, output=folder, threads=1).predictions()


def others(lines: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Formula -> the answers that it gives, with a prior of the rows themselves."""
    labels = list(lines[0]["prediction"]["probabilities"])
    p = np.array([[line["prediction"]["probabilities"][one] for one in labels] for line in lines])
    logs = np.log(np.maximum(p, 1e-30))
    scores = {
        "p - mean p": p - p.mean(axis=0),
        "log p - mean log p": logs - logs.mean(axis=0),
    }
    return {name: [labels[at] for at in one.argmax(axis=1)] for name, one in scores.items()}


def show(name: str, way: str, right: list[bool], answers: list[str]) -> None:
    """Print a line of the table."""
    error = np.std(right) / len(right) ** 0.5
    ((answer, count),) = Counter(answers).most_common(1)
    print(
        f"| {name} | {len(right)} | {way} | {100 * np.mean(right):.1f} +- {100 * error:.1f} "
        f"| {answer} {100 * count / len(answers):.0f} % |",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
