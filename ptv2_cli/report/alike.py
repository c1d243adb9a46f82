"""Whether two runs can be compared at all: the same task, the same data, the same rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ptv2_cli.errors import InputError, Problem, RunError, gather
from ptv2_cli.report.runs import Run
from ptv2_cli.tasks.base import Prediction

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


def inputs(line: Prediction) -> dict[str, Any]:
    """The input row's own columns in a prediction line."""
    # A row may have columns of these names, as MultiRC's `answer` and ReCoRD's `entities`.
    written = next((keys for sign, keys in _BY_SIGN.items() if sign in line), PREDICTED)
    return {key: value for key, value in line.items() if key not in {*written, "gold"}}


def read_lines(run: Run, split: str) -> list[Prediction]:
    """The run's predictions of a split.

    Raises:
        RunError: they are missing or damaged.
    """
    path = run.directory.predictions(split)
    try:
        lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
        if not lines or any("gold" not in line for line in lines):
            raise ValueError
    except FileNotFoundError:
        raise RunError.at(
            str(path), "is missing: the run reports no predictions of this split", _splits_hint(run)
        ) from None
    except (ValueError, TypeError):
        raise RunError.at(
            str(path), "holds no predictions of a ptv2 run", run.directory.repeat_hint
        ) from None
    return lines


def shared_split(a: Run, b: Run) -> str:
    """The split that `a` selected on, if both report it, else the first one that both report.

    Raises:
        InputError: there is none.
    """
    shared = [s for s in a.metrics["metrics"] if s in b.metrics["metrics"]]
    selected = str(a.metrics["selection"]["split"])
    if not shared:
        raise InputError.at(
            f"{a.name}, {b.name}",
            f"report no split in common: {_splits(a)}; {_splits(b)}",
            "train one again with --set report=[validation]",
        )
    return selected if selected in shared else shared[0]


def _splits(run: Run) -> str:
    return ", ".join(run.metrics["metrics"]) or "none"


def _splits_hint(run: Run) -> str:
    return f"--split with one of: {_splits(run)}"


def require_same_task(a: Run, b: Run) -> None:
    """Raise InputError unless scores of both runs mean the same."""
    tasks = [_identity(run) for run in (a, b)]
    if tasks[0] != tasks[1]:
        raise InputError.at(
            f"{a.name}, {b.name}",
            f"the runs are of different tasks: {tasks[0]} and {tasks[1]}",
            "compare runs of one task; ptv2 report shows runs of several",
        )


def _identity(run: Run) -> str:
    """`superglue/cb (version 1)`, with whatever else says what its metrics mean."""
    rest = {key: value for key, value in run.metrics["task"].items() if key != "name"}
    return f"{run.task} ({', '.join(f'{key} {value}' for key, value in rest.items())})"


def require_same_data(a: Run, b: Run, split: str) -> None:
    """Raise InputError unless both runs report the split, from the same files."""
    problems = []
    found = [run.metrics["data"].get(split, {}) for run in (a, b)]
    for run, data in zip((a, b), found, strict=True):
        if split not in run.metrics["metrics"] or not data:
            problems.append(
                Problem(run.name, f"has no predictions of split {split!r}", _splits_hint(run))
            )
    gather(problems, InputError)
    if (found[0]["sha256"], found[0]["rows"]) != (found[1]["sha256"], found[1]["rows"]):
        texts = [f"{data['rows']} rows of file {data['sha256'][:8]}" for data in found]
        raise InputError.at(
            f"{a.name}, {b.name}",
            f"the runs were scored on different data ({split}): {texts[0]} and {texts[1]}",
            "train both on the same task.data and task.limit, or compare another --split",
        )


def require_same_rows(
    a: Run, b: Run, first: Sequence[Prediction], second: Sequence[Prediction], split: str
) -> None:
    """Raise InputError unless the lines stand for the same rows in the same order.

    Equal files are not enough: a holdout is another part of train for every seed.
    """
    pairs = zip(first, second, strict=False)
    same = [inputs(x) == inputs(y) and x["gold"] == y["gold"] for x, y in pairs]
    if len(first) == len(second) and all(same):
        return
    line = same.index(False) + 1 if False in same else len(same) + 1
    seeds = " (a holdout depends on the seed)" if split == "holdout" and a.seed != b.seed else ""
    raise InputError.at(
        f"{a.name}, {b.name}",
        f"predictions/{split}.jsonl hold different rows, from line {line} on{seeds}",
        "compare runs of the same seed, or another --split",
    )
