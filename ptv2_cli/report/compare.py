"""Two runs against each other: their configs, the rows on which they differ, a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ptv2_cli.config.load import load_config
from ptv2_cli.errors import InputError
from ptv2_cli.report.alike import (
    inputs,
    read_lines,
    require_same_data,
    require_same_rows,
    require_same_task,
    shared_split,
)
from ptv2_cli.report.paired import Bootstrap, McNemar, mcnemar, paired_bootstrap
from ptv2_cli.report.runs import Run, flatten, plain
from ptv2_cli.run.directory import open_run
from ptv2_cli.tasks.base import Kind, Prediction, Statistics, Task
from ptv2_cli.tasks.definition import load_task


class Difference(NamedTuple):
    """One key on which the runs differ; None: the run has no such key."""

    key: str
    a: str | None
    b: str | None


@dataclass(frozen=True)
class Disagreement:
    """A row to which the runs gave different answers."""

    number: int
    """Line of predictions/SPLIT.jsonl, from 1."""
    row: dict[str, Any]
    """The input's columns."""
    gold: Any
    a: Any
    b: Any
    better: str
    """a, b, or - where neither is right."""


@dataclass(frozen=True)
class Comparison:
    """All that two runs say about each other."""

    a: Run
    b: Run
    split: str
    rows: int
    metric: str
    """The selection metric of A, or the one asked for."""
    differences: tuple[Difference, ...]
    scores: dict[str, Bootstrap]
    labels: McNemar | None
    """None where answers are no labels."""
    disagreements: tuple[Disagreement, ...]

    def test(self, metric: str) -> str:
        """The name of the test that `p` is of: McNemar's for the accuracy of labels."""
        return "mcnemar" if self.labels is not None and metric == "accuracy" else "bootstrap"

    def p(self, metric: str) -> float:
        """The two-sided p-value of a metric's difference."""
        if self.labels is not None and self.test(metric) == "mcnemar":
            return self.labels.p
        return self.scores[metric].p


def open_finished(path: Any) -> Run:
    """The finished run at `path`.

    Raises:
        RunError: there is none, it has not finished, or it is of another schema version.
    """
    directory = open_run(path)
    return Run(directory, directory.read_metrics())


def compare(a: Run, b: Run, split: str | None = None, metric: str | None = None) -> Comparison:
    """Compare two finished runs on the rows of one split.

    Args:
        a: the first run.
        b: the second run, whose gain over the first is tested.
        split: default: the split that the first selected on, if both have its predictions,
            else the first one that both reported.
        metric: default: the first run's selection metric.

    Raises:
        InputError: the runs are of different tasks, data or rows, or lack the metric.
        RunError: predictions are missing or damaged.
    """
    require_same_task(a, b)
    split = split or shared_split(a, b)
    require_same_data(a, b, split)
    metric = metric or str(a.metrics["selection"]["metric"])
    task = _task(a)
    lines_a, lines_b = read_lines(a, split), read_lines(b, split)
    require_same_rows(a, b, lines_a, lines_b, split)
    if metric not in task.metrics:
        raise InputError.at(
            "--metric", f"{task.name} has no metric {metric!r}", f"one of {', '.join(task.metrics)}"
        )
    rows = [task.labelled(line) for line in lines_a]
    each = [task.row_statistics(rows, lines) for lines in (lines_a, lines_b)]
    scores = paired_bootstrap(each[0], each[1], task.from_statistics)
    if metric not in scores:
        what = f"{metric} is no sum over rows, so that its difference cannot be resampled"
        raise InputError.at("--metric", what, f"--metric {task.metric}, or {', '.join(scores)}")
    return Comparison(
        a,
        b,
        split,
        len(rows),
        metric,
        differences(a, b),
        scores,
        _labels(task, lines_a, lines_b),
        tuple(_disagreements(task, lines_a, lines_b, each, metric)),
    )


def differences(a: Run, b: Run) -> tuple[Difference, ...]:
    """Config keys, the backbone's weights and the environment, where the runs differ."""
    first, second = _facts(a), _facts(b)
    keys = [*first, *(key for key in second if key not in first)]
    return tuple(
        Difference(
            key,
            plain(first[key]) if key in first else None,
            plain(second[key]) if key in second else None,
        )
        for key in keys
        if first.get(key, ...) != second.get(key, ...)
    )


def _facts(run: Run) -> dict[str, Any]:
    """Everything that was set or found, as dotted keys."""
    environment = {f"environment.{k}": v for k, v in run.metrics["environment"].items()}
    identity = str(run.metrics["backbone"]["identity"])[:12]
    return {**flatten(run.metrics["config"]), "backbone.weights": identity, **environment}


def _task(run: Run) -> Task:
    section = load_config(run.directory.config).config.task
    return load_task(section.name, section.options)


def _labels(task: Task, a: Sequence[Prediction], b: Sequence[Prediction]) -> McNemar | None:
    """McNemar's test where an answer is one of a few labels."""
    if not task.classed:
        return None
    right = [[float(line["label"] == line["gold"]) for line in lines] for lines in (a, b)]
    return mcnemar(np.array(right[0]), np.array(right[1]))


def _disagreements(
    task: Task,
    a: Sequence[Prediction],
    b: Sequence[Prediction],
    each: Sequence[Statistics],
    metric: str,
) -> list[Disagreement]:
    # A correlation of one row is nothing: there the nearer number is the better one. Nor is the
    # score of a group that of each of its rows: there the right label is.
    grouped = task.unit(a[0]) is not None
    measured = task.kind != "regression" and not grouped
    scores = [task.from_statistics(x)[metric] if measured else np.zeros(len(a)) for x in each]
    answers = [[task.answer(line) for line in lines] for lines in (a, b)]
    return [
        Disagreement(
            number + 1,
            inputs(line),
            line["gold"],
            first,
            second,
            _better(
                (float(scores[0][number]), _closeness(task.kind, first, line["gold"])),
                (float(scores[1][number]), _closeness(task.kind, second, line["gold"])),
            ),
        )
        for number, (line, first, second) in enumerate(zip(a, *answers, strict=True))
        if first != second
    ]


def _closeness(kind: Kind, answer: Any, gold: Any) -> float:
    """Decides between equal scores: right tags, nearness of a number."""
    if kind == "token":
        return float(sum(x == y for x, y in zip(answer, gold, strict=True)))
    return -abs(answer - gold) if kind == "regression" else float(answer == gold)


def _better(a: tuple[float, float], b: tuple[float, float]) -> str:
    return "-" if a == b else "a" if a > b else "b"
