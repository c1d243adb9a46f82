"""Print finished runs as a markdown table from their metrics.json.

scripts/table.py DIR...            scores and parameters
scripts/table.py --speed DIR...    time per step and peak memory by device
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

SCORES = ["task", "method", "score", "majority", "s.e.", "trainable", "%", "lr"]
SPEED = ["task", "method", "device", "precision", "ms per step", "examples/s", "peak MB"]


def scores(metrics: dict[str, Any]) -> list[str]:
    """The cells of one run: its score and its parameters."""
    metric = metrics["selection"]["metric"]
    split = metrics["selection"]["split"]
    baseline = metrics["majority_baseline"]
    parameters = metrics["parameters"]
    return [
        metrics["task"]["name"],
        _method(metrics),
        f"{metric} {100 * metrics['metrics'][split][metric]:.1f}",
        "-" if baseline is None else f"{100 * baseline[metric]:.1f}",
        f"{100 * metrics['standard_error']:.1f}",
        f"{parameters['trainable']:,}",
        f"{parameters['trainable_percent']:.2f}",
        f"{metrics['config']['train']['lr']:g}",
    ]


def speed(metrics: dict[str, Any]) -> list[str]:
    """The cells of one run: its device and its speed."""
    environment, timing = metrics["environment"], metrics["timing"]
    train, rows = metrics["config"]["train"], metrics["data"]["train"]["rows"]
    steps = train["steps"] or train["epochs"] * -(-rows // train["batch_size"])
    return [
        metrics["task"]["name"],
        _method(metrics),
        environment["device_name"],
        environment["dtype"],
        f"{1000 * timing['train_seconds'] / steps:.1f}",
        f"{timing['examples_per_second']:.0f}",
        f"{metrics['memory']['peak_bytes'] / 2**20:.0f}",
    ]


def _method(metrics: dict[str, Any]) -> str:
    length = f", length {metrics['prompt_len']}" if metrics["prompt_len"] else ""
    return f"{metrics['method']}{length}"


def main() -> None:
    """Print the finished runs in the folders, by task, best first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", action="store_true", help="time and memory instead of scores")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    paths = [path for folder in arguments.folders for path in folder.glob("*/metrics.json")]
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    runs.sort(key=lambda run: (run["task"]["name"], -run["selection"]["value"]))
    head, cells = (SPEED, speed) if arguments.speed else (SCORES, scores)
    for row in [head, ["---"] * len(head), *map(cells, runs)]:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
