"""Two runs, or two settings of several seeds, against each other: configs, rows, paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ptv2_cli.errors import InputError
from ptv2_cli.report.comparability import (
    require_once,
    require_same_data,
    require_same_rows,
    require_same_task,
    shared_split,
)
from ptv2_cli.report.paired import Bootstrap, McNemar, holm, mcnemar, over_seeds, paired_bootstrap
from ptv2_cli.report.predictions import Predicted, earlier_schema, predicted, task_of
from ptv2_cli.report.runs import Run, flatten, plain
from ptv2_cli.runs.directory import open_run
from ptv2_cli.tasks.base import Task


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
    """The columns as the file has them, without those of the gold answer."""
    words: tuple[str, ...]
    """Tagging: the sentence."""
    gold: Any
    a: Any
    b: Any
    better: str
    """a, b, or - where neither is right."""


@dataclass(frozen=True)
class Significance:
    """How far the difference of one metric could be chance; each p is two-sided."""

    name: str
    """Of the test over rows: mcnemar or bootstrap."""
    rows: float
    """p of another sample of rows."""
    seeds: float | None
    """p of other seeds; None without several a side."""
    holm: float
    """The larger of the two, corrected for the number of metrics."""

    @property
    def p(self) -> float:
        """The larger of the two: a difference that holds has to hold for both."""
        return max(self.rows, self.seeds or 0.0)


@dataclass(frozen=True)
class Comparison:
    """All that two sides, each a run or several of one setting, say about each other."""

    a: tuple[Run, ...]
    b: tuple[Run, ...]
    split: str
    rows: int
    metric: str
    """The selection metric of A, or the one asked for."""
    differences: tuple[Difference, ...]
    scores: dict[str, Bootstrap]
    tests: dict[str, Significance]
    labels: McNemar | None
    """None where answers are no labels, or a side has several runs."""
    disagreements: tuple[Disagreement, ...]
    """Empty where a side has several runs."""
    note: str | None
    """What is to know of the files that were read; None: nothing."""

    @property
    def single(self) -> bool:
        """Whether each side is one run."""
        return len(self.a) == len(self.b) == 1


def open_finished(path: Any) -> Run:
    """The finished run at `path`.

    Raises:
        RunError: there is none, it has not finished, or it is of another schema version.
    """
    directory = open_run(path)
    return Run(directory, directory.read_metrics())


def compare(
    a: Sequence[Run], b: Sequence[Run], split: str | None = None, metric: str | None = None
) -> Comparison:
    """Compare two sides on the rows of one split.

    Args:
        a: finished runs, several if they are seeds of one setting.
        b: those whose gain over the first is tested.
        split: default: the split that the first selected on, if all have its predictions, else
            the first one that all reported.
        metric: default: the first run's selection metric.

    Raises:
        InputError: the runs are of different tasks, data or rows, lack the metric, or a run
            stands twice on one side.
        RunError: predictions are missing or damaged.
    """
    runs = [*a, *b]
    for side in (a, b):
        require_once(side)
    require_same_task(runs)
    split = split or shared_split(runs)
    require_same_data(runs, split)
    metric = metric or str(runs[0].metrics["selection"]["metric"])
    task = task_of(runs[0])
    found = [predicted(run, split, task) for run in runs]
    for other in found[1:]:
        require_same_rows(found[0], other)
    if metric not in task.metrics:
        raise InputError.at(
            "--metric", f"{task.name} has no metric {metric!r}", f"one of {', '.join(task.metrics)}"
        )
    first, second = found[: len(a)], found[len(a) :]
    scores = paired_bootstrap(
        [one.statistics for one in first],
        [one.statistics for one in second],
        task.from_statistics,
    )
    if metric not in scores:
        what = f"{metric} is no sum over rows, so that its difference cannot be resampled"
        raise InputError.at("--metric", what, f"--metric {task.metric}, or {', '.join(scores)}")
    single = len(a) == len(b) == 1
    labels = rows_right(first[0], second[0]) if single else None
    return Comparison(
        tuple(a),
        tuple(b),
        split,
        len(found[0].lines),
        metric,
        differences(a, b),
        scores,
        _tests(scores, labels, a, b, split),
        labels,
        tuple(_disagreements(task, first[0], second[0], metric)) if single else (),
        earlier_schema(runs),
    )


def rows_right(a: Predicted, b: Predicted) -> McNemar | None:
    """McNemar's counts where an answer is one of a few labels, else None."""
    return None if a.right is None or b.right is None else mcnemar(a.right, b.right)


def _tests(
    scores: Mapping[str, Bootstrap],
    labels: McNemar | None,
    a: Sequence[Run],
    b: Sequence[Run],
    split: str,
) -> dict[str, Significance]:
    found = {}
    for name, score in scores.items():
        exact = labels is not None and name == "accuracy"
        sides = [[run.score(split, name) for run in side] for side in (a, b)]
        known = [[value for value in side if value is not None] for side in sides]
        rows = labels.p if labels is not None and exact else score.p
        name_of = "mcnemar" if exact else "bootstrap"
        found[name] = Significance(name_of, rows, over_seeds(*known), 1.0)
    corrected = holm([test.p for test in found.values()])
    pairs = zip(found.items(), corrected, strict=True)
    return {name: replace(test, holm=p) for (name, test), p in pairs}


def differences(a: Sequence[Run], b: Sequence[Run]) -> tuple[Difference, ...]:
    """Config keys, the backbone's weights and the environment, where the sides differ."""
    first, second = ([_facts(run) for run in side] for side in (a, b))
    keys = dict.fromkeys(key for facts in [*first, *second] for key in facts)
    found = (Difference(key, _values(first, key), _values(second, key)) for key in keys)
    return tuple(item for item in found if item.a != item.b)


def _values(side: Sequence[Mapping[str, Any]], key: str) -> str | None:
    """The values of a key on a side, each once; None where none of its runs has it."""
    values = dict.fromkeys(plain(facts[key]) for facts in side if key in facts)
    return "; ".join(values) if values else None


def _facts(run: Run) -> dict[str, Any]:
    """Everything that was set or found, as dotted keys."""
    environment = {f"environment.{k}": v for k, v in run.metrics["environment"].items()}
    identity = str(run.metrics["backbone"]["identity"])[:12]
    origin = flatten({"origin": run.metrics.get("origin") or {}})
    weights = {"backbone.weights": identity}
    return {**flatten(run.metrics["config"]), **weights, **origin, **environment}


def _disagreements(
    task: Task, first_side: Predicted, second_side: Predicted, metric: str
) -> list[Disagreement]:
    sides = (first_side, second_side)
    hidden = task.gold_columns
    # A correlation of one row is nothing: there the nearer number is the better one. Nor is the
    # score of a group that of each of its rows: there the right label is.
    grouped = task.unit(first_side.rows[0]) is not None
    measured = task.kind_spec.answer != "number" and not grouped
    nothing = np.zeros(len(first_side.lines))
    scores = [
        task.from_statistics(side.statistics)[metric] if measured else nothing for side in sides
    ]
    answers = [[task.answer(line) for line in side.lines] for side in sides]
    return [
        Disagreement(
            number + 1,
            {key: value for key, value in line["row"].items() if key not in hidden},
            tuple(first_row["tokens"]) if task.kind_spec.answer == "tags" else (),
            line["gold"],
            first,
            second,
            _better(
                (float(scores[0][number]), _closeness(task, first, line["gold"])),
                (float(scores[1][number]), _closeness(task, second, line["gold"])),
            ),
        )
        for number, (line, first_row, first, second) in enumerate(
            zip(first_side.lines, first_side.rows, *answers, strict=True)
        )
        if first != second
    ]


def _closeness(task: Task, answer: Any, gold: Any) -> float:
    """Decides between equal scores: right tags, nearness of a number."""
    if task.kind_spec.answer == "tags":
        return float(sum(x == y for x, y in zip(answer, gold, strict=True)))
    return -abs(answer - gold) if task.kind_spec.answer == "number" else float(answer == gold)


def _better(a: tuple[float, float], b: tuple[float, float]) -> str:
    return "-" if a == b else "a" if a > b else "b"
