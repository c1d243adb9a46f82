"""Runs that have not finished: how far each is, from its config and its history so far."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ptv2_cli.config.load import load_config
from ptv2_cli.errors import Ptv2Error
from ptv2_cli.report.html.scales import Scale
from ptv2_cli.report.text_table import percent
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.lock import in_use

SPARK = (120.0, 28.0)
"""Width and height of a small learning curve."""


@dataclass(frozen=True)
class Unfinished:
    """A run that has no metrics.json."""

    name: str
    directory: str
    task: str
    method: str
    state: str
    """training, or interrupted."""
    epoch: float | None
    """Of the last evaluation; None before the first."""
    epochs: float | None
    """Planned; None where the config has steps, or cannot be read."""
    score: str
    """The selection metric at the last evaluation: `accuracy 71.2`."""
    loss: str
    """Train loss at the last evaluation."""
    changed: str
    """When history.jsonl last changed, in UTC."""
    spark: str
    """The points of its learning curve; empty below two evaluations."""
    command: str
    """What continues it."""


def unfinished(runs: Sequence[RunDirectory]) -> list[Unfinished]:
    """How far runs are, those that train first."""
    told = [_of(run) for run in runs]
    return sorted(told, key=lambda one: (one.state != "training", one.name))


def history_so_far(run: RunDirectory) -> list[dict[str, Any]]:
    """The whole lines of a history that is being written."""
    try:
        text = run.history.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict) and isinstance(content.get("metrics"), dict):
            lines.append(content)
    return lines


def _of(run: RunDirectory) -> Unfinished:
    lines = history_so_far(run)
    task, method, metric, epochs = "", "", None, None
    try:
        config = load_config(run.config).config
        task, method = config.task.name, config.method.name
        metric = config.selection.metric
        epochs = config.train.epochs if config.train.steps is None else None
    except Ptv2Error:
        pass
    names = [name for line in lines for name in line["metrics"]]
    metric = metric if metric in names else next(iter(names), None)
    last = lines[-1] if lines else {}
    scores = [_number(line["metrics"].get(metric)) for line in lines]
    known = [score for score in scores if score is not None]
    loss = _number(last.get("train_loss"))
    return Unfinished(
        run.path.name,
        str(run.path),
        task,
        method,
        "training" if in_use(run.path) else "interrupted",
        _number(last.get("epoch")),
        None if epochs is None else float(epochs),
        f"{metric} {percent(known[-1])}" if known else "",
        "" if loss is None else f"{loss:.4g}",
        _changed(run),
        _spark(known),
        run.resume_hint.removesuffix(" continues it"),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _changed(run: RunDirectory) -> str:
    try:
        stamp = run.history.stat().st_mtime
    except OSError:
        return ""
    return datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _spark(scores: Sequence[float]) -> str:
    if len(scores) < 2:
        return ""
    width, height = SPARK
    x = Scale(0, len(scores) - 1, 2, width - 2)
    y = Scale(min(scores), max(scores), height - 3, 3)
    return " ".join(f"{x.at(at):g},{y.at(score):g}" for at, score in enumerate(scores))
