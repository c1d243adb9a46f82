"""A run of several tasks as a row beside the runs of each: one view of it for each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ptv2_cli.report.runs import Run


def parts(run: Run) -> Iterator[Run]:
    """The run itself, or a view for each of the tasks that it trained together."""
    tasks = run.metrics["task"].get("tasks")
    if not tasks:
        yield run
        return
    for number, task in enumerate(tasks):
        yield _view(run, number, task, len(tasks))


def _view(run: Run, number: int, task: Mapping[str, Any], count: int) -> Run:
    metrics, name = run.metrics, task["as"]
    prefix = f"{name}."
    config = metrics["config"]
    return replace(
        run,
        prefix=prefix,
        metrics={
            **metrics,
            "task": task,
            "method": f"{metrics['method']}, {count} tasks",
            "selection": {**metrics["selection"], "metric": task["metric"]},
            "metrics": {split: _own(found, prefix) for split, found in metrics["metrics"].items()},
            "majority_baseline": _own(metrics["majority_baseline"] or {}, prefix),
            "detail": {split: found.get(name, {}) for split, found in metrics["detail"].items()},
            "data": {split: _data(data, number, name) for split, data in metrics["data"].items()},
            "config": {
                **config,
                "task": config["task"]["tasks"][number],
                "selection": {**config["selection"], "metric": task["metric"]},
            },
        },
    )


def _own(scores: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): value
        for name, value in scores.items()
        if name.startswith(prefix)
    }


def _data(data: Mapping[str, Any], number: int, name: str) -> dict[str, Any]:
    """What identifies this task's rows of a split."""
    return {**data, "sha256": data["sha256"].split("+")[number], "rows": data["tasks"][name]}
