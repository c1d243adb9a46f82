"""Class weights: how much a row (or word) of each label counts in the loss.

A batch carries a weight for each of its targets, and its `targets` are their sum: the loss is
torch's weighted cross entropy, sum(w * l) / sum(w), over a step of however many batches.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from ptv2_cli.data.rows import Row
from ptv2_cli.errors import Problem
from ptv2_cli.tasks.base import Task

ClassWeights = Literal["balanced"] | Mapping[str, float]
KEY = "train.class_weights"


def weight_problems(setting: ClassWeights, task: Task, where: str = KEY) -> Iterator[Problem]:
    """Tasks that have no classes, and labels that the task has not, if its labels are known."""
    if task.parts:
        hint = "leave it out, or train on one task alone"
        yield Problem(where, "several tasks in one run have labels of their own", hint)
    elif task.unweighted is not None:
        what = f"{task.name} has no class weights: {task.unweighted}"
        yield Problem(where, what, "leave it out; classification and tagging have them")
    elif task.labels and not isinstance(setting, str):
        for label in setting:
            if label not in task.labels:
                yield Problem(where, f"{label!r} is no label of {task.name}", _known(label, task))
        if not any(setting.get(label, 1.0) for label in task.labels):
            hint = "give one of the labels a weight above 0"
            yield Problem(where, "every label has the weight 0: nothing to learn", hint)


def class_weights(
    setting: ClassWeights | None, task: Task, train: Sequence[Row] | None
) -> tuple[float, ...] | None:
    """The weight of each of the task's labels, in their order; None: all count alike.

    `balanced` is n / (C * n_c): n train rows (words, of tagging) with C different labels, n_c of
    them with label c; King and Zeng 2001 (Political Analysis 9), as scikit-learn's
    `compute_class_weight` has it. A label without a train row counts 1.

    Args:
        setting: `train.class_weights`.
        task: with its labels known.
        train: rows of train; without them `balanced` is not known, and None comes back.
    """
    if setting is None or (setting == "balanced" and train is None):
        return None
    if not isinstance(setting, str):
        return tuple(setting.get(label, 1.0) for label in task.labels)
    counts = Counter(label for row in train or () for label in _labels(task, row))
    known = [counts[label] for label in task.labels if counts[label]]
    total = sum(known)
    return tuple(
        total / (len(known) * counts[label]) if counts[label] else 1.0 for label in task.labels
    )


def _labels(task: Task, row: Row) -> Sequence[str]:
    gold = task.gold(row)
    return [gold] if isinstance(gold, str) else gold


def _known(label: str, task: Task) -> str:
    near = difflib.get_close_matches(label, task.labels, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(task.labels[:20]) + (", ..." if len(task.labels) > 20 else "")
    return f"{guess}its labels are {shown}"
