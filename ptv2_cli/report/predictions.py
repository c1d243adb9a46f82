"""The predictions of a run on a split, and the statistics of its rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ptv2_cli.config.load import load_config
from ptv2_cli.data.rows import Row
from ptv2_cli.errors import RunError
from ptv2_cli.report.runs import ReportedRun
from ptv2_cli.runs.run_files import (
    PREDICTIONS_SCHEMA,
    PredictionLine,
    predictions_schema,
    read_predictions,
)
from ptv2_cli.scoring.scores import Prediction, Statistics
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_task
from ptv2_cli.tasks.multi import TASK


@dataclass(frozen=True)
class RunPredictions:
    """A run's predictions of a split, as its task reads them."""

    run: ReportedRun
    split: str
    task: Task
    lines: list[PredictionLine]

    @cached_property
    def rows(self) -> list[Row]:
        """The rows under the task's own names, with their gold answers.

        Raises:
            RunError: the lines are damaged.
        """
        try:
            return [self.task.labelled(line) for line in self.lines]
        except (KeyError, ValueError, TypeError, AttributeError):
            raise _damaged(self.run, self.split) from None

    @property
    def predictions(self) -> list[Prediction]:
        """The prediction of each row."""
        return [line["prediction"] for line in self.lines]

    @cached_property
    def statistics(self) -> Statistics:
        """Per row the sums [n, k] from whose totals every metric follows.

        Raises:
            RunError: the lines are damaged.
        """
        try:
            return self.task.row_statistics(self.rows, self.predictions)
        except (KeyError, ValueError, TypeError, AttributeError):
            raise _damaged(self.run, self.split) from None

    @cached_property
    def right(self) -> Statistics | None:
        """1 for each row [n] whose label is right, else 0; None where answers are no labels."""
        if not self.task.classed:
            return None
        return np.array([float(self.task.answer(line) == line["gold"]) for line in self.lines])


def predicted(run: ReportedRun, split: str, task: Task | None = None) -> RunPredictions:
    """Read a run's predictions of a split.

    Args:
        run: a finished run, or the view of one of its tasks.
        split: a split that it reports.
        task: default: the run's own; runs of one task can share it.

    Raises:
        RunError: the predictions are missing or damaged.
    """
    task = task or task_of(run)
    return RunPredictions(run, split, task, read_lines(run, split, task))


def task_of(run: ReportedRun) -> Task:
    """The run's task, as its config says; of a view the one task that it shows."""
    section = load_config(run.directory.config).config.task
    task = load_task(section.name, section.options)
    if not run.prefix:
        return task
    return task.parts[[f"{item['as']}." for item in task.identity["tasks"]].index(run.prefix)]


def read_lines(run: ReportedRun, split: str, task: Task) -> list[PredictionLine]:
    """The run's predictions of a split; of a view those of the task that it shows.

    Raises:
        RunError: they are missing or damaged.
    """
    path = run.directory.predictions(split)
    try:
        several = bool(run.prefix or task.parts)
        hint = run.directory.repeat_hint
        lines = read_predictions(path, run.metrics, task.kind_spec, several, hint)
    except FileNotFoundError:
        what = "is missing: the run reports no predictions of this split"
        raise RunError.at(str(path), what, splits_hint(run)) from None
    if run.prefix:
        lines = [line for line in lines if f"{line.get(TASK)}." == run.prefix]
    if not lines:
        raise _damaged(run, split)
    return lines


def earlier_schema(runs: Iterable[ReportedRun]) -> str | None:
    """A note that some runs have predictions of an earlier schema; None if none has."""
    names = dict.fromkeys(
        run.name for run in runs if predictions_schema(run.metrics) < PREDICTIONS_SCHEMA
    )
    if not names:
        return None
    return (
        "predictions of schema 1 (one flat object per row) were read; their rows lack columns "
        f"named like a key of the prediction: {', '.join(names)}"
    )


def difference(a: RunPredictions, b: RunPredictions) -> int | None:
    """The first line, from 1, with different rows; None if all rows are equal.

    Equal data files are not enough: a holdout is a different part of train for every seed.
    """
    same = (
        _equal if predictions_schema(a.run.metrics) == predictions_schema(b.run.metrics) else _alike
    )
    pairs = zip(zip(a.lines, a.rows, strict=True), zip(b.lines, b.rows, strict=True), strict=False)
    for number, (x, y) in enumerate(pairs, 1):
        if x[0]["gold"] != y[0]["gold"] or not same(a.task, x, y):
            return number
    counts = len(a.lines), len(b.lines)
    return None if counts[0] == counts[1] else min(counts) + 1


def _equal(task: Task, a: tuple[PredictionLine, Row], b: tuple[PredictionLine, Row]) -> bool:
    return bool(a[0]["row"] == b[0]["row"])


def _alike(task: Task, a: tuple[PredictionLine, Row], b: tuple[PredictionLine, Row]) -> bool:
    """Whether the model reads the same texts in both, where both rows have them."""
    part = task.part_of(a[1])
    contents = zip(part.content(a[1]), part.content(b[1]), strict=True)
    return all(x == y or None in (x, y) for x, y in contents)


def splits_hint(run: ReportedRun) -> str:
    """What to type where a run lacks a split."""
    return f"--split with one of: {', '.join(run.metrics['metrics']) or 'none'}"


def _damaged(run: ReportedRun, split: str) -> RunError:
    path = run.directory.predictions(split)
    return RunError.at(str(path), "holds no predictions of a ptv2 run", run.directory.repeat_hint)
