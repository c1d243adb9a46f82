"""Print finished runs as a markdown table from their metrics.json: scripts/table.py DIR."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def row(metrics: dict[str, Any]) -> list[str]:
    """The cells of one run."""
    metric = metrics["selection"]["metric"]
    split = metrics["selection"]["split"]
    baseline = metrics["majority_baseline"]
    length = f", length {metrics['prompt_len']}" if metrics["prompt_len"] else ""
    return [
        metrics["task"]["name"],
        f"{metrics['method']}{length}",
        f"{metric} {100 * metrics['metrics'][split][metric]:.1f}",
        "-" if baseline is None else f"{100 * baseline[metric]:.1f}",
        f"{100 * metrics['standard_error']:.1f}",
        f"{metrics['parameters']['trainable']:,}",
        f"{metrics['parameters']['trainable_percent']:.2f}",
        f"{metrics['config']['train']['lr']:g}",
        f"{metrics['timing']['train_seconds']:.0f}",
    ]


def main(folder: Path) -> None:
    """Read every finished run below `folder`, tasks together, best first."""
    runs = [json.loads(path.read_text()) for path in folder.glob("*/metrics.json")]
    runs.sort(key=lambda run: (run["task"]["name"], -run["selection"]["value"]))
    head = ["task", "method", "score", "majority", "s.e.", "trainable", "%", "lr", "seconds"]
    for cells in [head, ["---"] * len(head), *map(row, runs)]:
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
