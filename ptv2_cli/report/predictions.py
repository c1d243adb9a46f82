"""The predictions that a run left of a split: its lines, and what they count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ptv2_cli.config.load import load_config
from ptv2_cli.errors import RunError
from ptv2_cli.report.runs import Run
from ptv2_cli.runs.read_back import read_predictions
from ptv2_cli.scoring.scores import Prediction, Statistics
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_task

PREDICTED = {
    *("label", "probabilities", "tags", "entities", "answer", "start", "probability", "nbest"),
    *("null_score", "prediction"),
}
"""Keys of a prediction line that the model wrote; the others are the input row and `gold`."""

_BY_SIGN = {
    "probabilities": {"label", "probabilities"},
    "nbest": {"answer", "start", "probability", "nbest", "null_score"},
}
"""A key that only the model writes -> all that it writes beside it."""


@dataclass(frozen=True)
class Predicted:
    """A run's predictions of a split, as its task reads them."""

    run: Run
    split: str
    task: Task
    lines: list[Prediction]

    @cached_property
    def statistics(self) -> Statistics:
        """Per row the sums [n, k] from whose totals every metric follows.

        Raises:
            RunError: the lines are damaged.
        """
        try:
            rows = [self.task.labelled(line) for line in self.lines]
            return self.task.row_statistics(rows, self.lines)
        except (KeyError, ValueError, TypeError, AttributeError):
            raise _damaged(self.run, self.split) from None

    @cached_property
    def right(self) -> Statistics | None:
        """1 for each row [n] whose label is right, else 0; None where answers are no labels."""
        if not self.task.classed:
            return None
        return np.array([float(line["label"] == line["gold"]) for line in self.lines])


def predicted(run: Run, split: str, task: Task | None = None) -> Predicted:
    """Read a run's predictions of a split.

    Args:
        run: a finished run, or the view of one of its tasks.
        split: a split that it reports.
        task: default: the run's own; runs of one task can share it.

    Raises:
        RunError: the predictions are missing or damaged.
    """
    return Predicted(run, split, task or task_of(run), read_lines(run, split))


def task_of(run: Run) -> Task:
    """The run's task, as its config says; of a view the one task that it shows."""
    section = load_config(run.directory.config).config.task
    task = load_task(section.name, section.options)
    if not run.prefix:
        return task
    return task.parts[[f"{item['as']}." for item in task.identity["tasks"]].index(run.prefix)]


def inputs(line: Prediction) -> dict[str, Any]:
    """The input row's own columns in a prediction line."""
    # A row may have columns of these names, as MultiRC's `answer` and ReCoRD's `entities`.
    written = next((keys for sign, keys in _BY_SIGN.items() if sign in line), PREDICTED)
    return {key: value for key, value in line.items() if key not in {*written, "gold"}}


def read_lines(run: Run, split: str) -> list[Prediction]:
    """The run's predictions of a split; of a view those of the task that it shows.

    Raises:
        RunError: they are missing or damaged.
    """
    path = run.directory.predictions(split)
    try:
        lines = read_predictions(path, run.directory.repeat_hint, _written)
    except FileNotFoundError:
        what = "is missing: the run reports no predictions of this split"
        raise RunError.at(str(path), what, splits_hint(run)) from None
    if run.prefix:
        # Without the column that names the task, as a run of this task alone has them.
        lines = [line for line in lines if f"{line.pop('task', None)}." == run.prefix]
    if not lines:
        raise _damaged(run, split)
    return lines


def _written(line: Prediction) -> set[str]:
    """The keys of a prediction line that the model wrote."""
    return set(line) - set(inputs(line)) - {"gold"}


def difference(a: Predicted, b: Predicted) -> int | None:
    """The first line, from 1, on which they stand for different rows; None if there is none.

    Equal files are not enough: a holdout is another part of train for every seed.
    """
    for number, (x, y) in enumerate(zip(a.lines, b.lines, strict=False), 1):
        if inputs(x) != inputs(y) or x["gold"] != y["gold"]:
            return number
    counts = len(a.lines), len(b.lines)
    return None if counts[0] == counts[1] else min(counts) + 1


def splits_hint(run: Run) -> str:
    """What to type where a run lacks a split."""
    return f"--split with one of: {', '.join(run.metrics['metrics']) or 'none'}"


def _damaged(run: Run, split: str) -> RunError:
    path = run.directory.predictions(split)
    return RunError.at(str(path), "holds no predictions of a ptv2 run", run.directory.repeat_hint)
