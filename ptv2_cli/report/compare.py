"""Two runs, or two settings of several seeds, against each other: configs, rows, paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ptv2_cli.errors import InputError, Problem, gather
from ptv2_cli.report.paired import Bootstrap, McNemar, holm, mcnemar, over_seeds, paired_bootstrap
from ptv2_cli.report.predictions import (
    RunPredictions,
    difference,
    earlier_schema,
    predicted,
    splits_hint,
    task_of,
)
from ptv2_cli.report.runs import ReportedRun, flatten, plain
from ptv2_cli.runs.directory import open_run
from ptv2_cli.scoring.squad import best_over
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
    """The comparison of two sides, each a run or several runs of one setting."""

    a: tuple[ReportedRun, ...]
    b: tuple[ReportedRun, ...]
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
    """A note about the files of predictions; None if there is none."""

    @property
    def single(self) -> bool:
        """Whether each side is one run."""
        return len(self.a) == len(self.b) == 1


def open_finished(path: Any) -> ReportedRun:
    """The finished run at `path`.

    Raises:
        RunError: there is none, it has not finished, or it is of another schema version.
    """
    directory = open_run(path)
    return ReportedRun(directory, directory.read_metrics())


def compare(
    a: Sequence[ReportedRun],
    b: Sequence[ReportedRun],
    split: str | None = None,
    metric: str | None = None,
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
            appears twice on one side.
        RunError: predictions are missing or damaged.
    """
    runs = [*a, *b]
    for side in (a, b):
        _require_once(side)
    _require_same_task(runs)
    split = split or _shared_split(runs)
    _require_same_data(runs, split)
    metric = metric or str(runs[0].metrics["selection"]["metric"])
    task = task_of(runs[0])
    predictions = [predicted(run, split, task) for run in runs]
    for other in predictions[1:]:
        _require_same_rows(predictions[0], other)
    if metric not in task.metrics:
        raise InputError.at(
            "--metric", f"{task.name} has no metric {metric!r}", f"one of {', '.join(task.metrics)}"
        )
    first, second = predictions[: len(a)], predictions[len(a) :]
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
        len(predictions[0].lines),
        metric,
        differences(a, b),
        scores,
        _tests(scores, labels, a, b, split),
        labels,
        tuple(_disagreements(task, first[0], second[0], metric)) if single else (),
        earlier_schema(runs),
    )


def rows_right(a: RunPredictions, b: RunPredictions) -> McNemar | None:
    """McNemar's counts where an answer is one of a few labels, else None."""
    return None if a.right is None or b.right is None else mcnemar(a.right, b.right)


def _tests(
    scores: Mapping[str, Bootstrap],
    labels: McNemar | None,
    a: Sequence[ReportedRun],
    b: Sequence[ReportedRun],
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


def differences(a: Sequence[ReportedRun], b: Sequence[ReportedRun]) -> tuple[Difference, ...]:
    """Config keys, the backbone's weights and the environment, where the sides differ."""
    first, second = ([facts_of(run) for run in side] for side in (a, b))
    keys = dict.fromkeys(key for facts in [*first, *second] for key in facts)
    found = (Difference(key, _values(first, key), _values(second, key)) for key in keys)
    return tuple(item for item in found if item.a != item.b)


def _values(side: Sequence[Mapping[str, Any]], key: str) -> str | None:
    """The different values of a key on a side; None if none of its runs has it."""
    values = dict.fromkeys(plain(facts[key]) for facts in side if key in facts)
    return "; ".join(values) if values else None


def facts_of(run: ReportedRun) -> dict[str, Any]:
    """Config, weights, origin and environment, as dotted keys."""
    environment = {f"environment.{k}": v for k, v in run.metrics["environment"].items()}
    identity = str(run.metrics["backbone"]["identity"])[:12]
    origin = flatten({"origin": run.metrics.get("origin") or {}})
    weights = {"backbone.weights": identity}
    return {**flatten(run.metrics["config"]), **weights, **origin, **environment}


def _disagreements(
    task: Task, first_side: RunPredictions, second_side: RunPredictions, metric: str
) -> list[Disagreement]:
    sides = (first_side, second_side)
    hidden = task.gold_columns
    # One row has no correlation: the closer number is better. The score of a group of rows is no
    # score of one of them: the right label is better.
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
    """Breaks ties between equal scores: right tags, how close a number is, a text's token F1."""
    if task.kind_spec.answer == "writing":
        return best_over(answer, [gold] if isinstance(gold, str) else gold)[1]
    if task.kind_spec.answer == "tags":
        return float(sum(x == y for x, y in zip(answer, gold, strict=True)))
    return -abs(answer - gold) if task.kind_spec.answer == "number" else float(answer == gold)


def _better(a: tuple[float, float], b: tuple[float, float]) -> str:
    return "-" if a == b else "a" if a > b else "b"


def _require_once(side: Sequence[ReportedRun]) -> None:
    """Raise InputError if a side has a run twice: it would count as another seed."""
    marks = [str(run.metrics.get("fingerprint")) for run in side]
    twice = [run.name for run, mark in zip(side, marks, strict=True) if marks.count(mark) > 1]
    if twice:
        what = "are one run: it would count as several seeds"
        raise InputError.at(", ".join(twice), what, "name every run once")


def _shared_split(runs: Sequence[ReportedRun]) -> str:
    """The split that the first run selected on, if all report it, else the first that all report.

    Raises:
        InputError: there is none.
    """
    first, *others = runs
    reported = [set(run.metrics["metrics"]) for run in others]
    shared = [name for name in first.metrics["metrics"] if all(name in own for own in reported)]
    selected = str(first.metrics["selection"]["split"])
    if not shared:
        raise InputError.at(
            _names(runs),
            f"report no split in common: {'; '.join(map(_splits, runs))}",
            "train one again with --set report=[validation]",
        )
    return selected if selected in shared else shared[0]


def _require_same_task(runs: Sequence[ReportedRun]) -> None:
    """Raise InputError unless the scores of all runs mean the same."""
    for run in runs[1:]:
        tasks = [_identity(one) for one in (runs[0], run)]
        if tasks[0] != tasks[1]:
            raise InputError.at(
                _names((runs[0], run)),
                f"the runs are of different tasks: {tasks[0]} and {tasks[1]}",
                "compare runs of one task; ptv2 report shows runs of several",
            )


def _require_same_data(runs: Sequence[ReportedRun], split: str) -> None:
    """Raise InputError unless all runs report the split, from the same files."""
    found = [run.metrics["data"].get(split, {}) for run in runs]
    gather(
        [
            Problem(run.name, f"has no predictions of split {split!r}", splits_hint(run))
            for run, data in zip(runs, found, strict=True)
            if split not in run.metrics["metrics"] or not data
        ],
        InputError,
    )
    for run, data in zip(runs[1:], found[1:], strict=True):
        if (found[0]["sha256"], found[0]["rows"]) != (data["sha256"], data["rows"]):
            texts = [f"{own['rows']} rows of file {own['sha256'][:8]}" for own in (found[0], data)]
            raise InputError.at(
                _names((runs[0], run)),
                f"the runs were scored on different data ({split}): {texts[0]} and {texts[1]}",
                "train both on the same task.data and task.limit, or compare another --split",
            )


def _names(runs: Sequence[ReportedRun]) -> str:
    return ", ".join(run.name for run in runs)


def _splits(run: ReportedRun) -> str:
    return ", ".join(run.metrics["metrics"]) or "none"


def _identity(run: ReportedRun) -> str:
    """`superglue/cb (version 1)`, with whatever else says what its metrics mean."""
    rest = {key: value for key, value in run.metrics["task"].items() if key != "name"}
    return f"{run.task} ({', '.join(f'{key} {value}' for key, value in rest.items())})"


def _require_same_rows(a: RunPredictions, b: RunPredictions) -> None:
    """Raise InputError unless both have predictions of the same rows in the same order."""
    line = difference(a, b)
    if line is None:
        return
    split, seeds = a.split, ""
    if split == "holdout" and a.run.seed != b.run.seed:
        seeds = " (a holdout depends on the seed)"
    raise InputError.at(
        _names((a.run, b.run)),
        f"predictions/{split}.jsonl hold different rows, from line {line} on{seeds}",
        "compare runs of the same seed, or another --split",
    )
