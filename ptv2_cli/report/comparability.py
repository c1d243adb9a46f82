"""Whether two runs can be compared at all: the same task, the same data, the same rows."""

from __future__ import annotations

from collections.abc import Sequence

from ptv2_cli.errors import InputError, Problem, gather
from ptv2_cli.report.predictions import Predicted, difference, splits_hint
from ptv2_cli.report.runs import Run


def require_once(side: Sequence[Run]) -> None:
    """Raise InputError if a run stands twice on a side: it would count as another seed."""
    marks = [str(run.metrics.get("fingerprint")) for run in side]
    twice = [run.name for run, mark in zip(side, marks, strict=True) if marks.count(mark) > 1]
    if twice:
        what = "are one run: it would count as several seeds"
        raise InputError.at(", ".join(twice), what, "name every run once")


def shared_split(runs: Sequence[Run]) -> str:
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


def require_same_task(runs: Sequence[Run]) -> None:
    """Raise InputError unless the scores of all runs mean the same."""
    for run in runs[1:]:
        tasks = [_identity(one) for one in (runs[0], run)]
        if tasks[0] != tasks[1]:
            raise InputError.at(
                _names((runs[0], run)),
                f"the runs are of different tasks: {tasks[0]} and {tasks[1]}",
                "compare runs of one task; ptv2 report shows runs of several",
            )


def require_same_data(runs: Sequence[Run], split: str) -> None:
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


def _names(runs: Sequence[Run]) -> str:
    return ", ".join(run.name for run in runs)


def _splits(run: Run) -> str:
    return ", ".join(run.metrics["metrics"]) or "none"


def _identity(run: Run) -> str:
    """`superglue/cb (version 1)`, with whatever else says what its metrics mean."""
    rest = {key: value for key, value in run.metrics["task"].items() if key != "name"}
    return f"{run.task} ({', '.join(f'{key} {value}' for key, value in rest.items())})"


def require_same_rows(a: Predicted, b: Predicted) -> None:
    """Raise InputError unless the lines stand for the same rows in the same order."""
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
