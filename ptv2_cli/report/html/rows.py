"""Rows that runs got wrong, with the answers of all runs of the same rows beside each other.

A page cannot hold every row of every run. Runs that were scored on the same rows share one set of
them: the worst rows of each run in turn, until the set is full.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from ptv2_cli.errors import InputError, Ptv2Error
from ptv2_cli.report.excerpts import columns_of, excerpt
from ptv2_cli.report.mistakes import Confusion, Mistake, confusion, mistakes
from ptv2_cli.report.predictions import RunPredictions, predicted
from ptv2_cli.report.runs import ReportedRun
from ptv2_cli.scoring.entities import entities
from ptv2_cli.tasks.base import Task

MOST, LEAST = 200, 20
"""Rows of a set, and those that it has however many runs there are."""
ANSWERS = 12_000
"""Answers of all runs of a set to all of its rows, if that leaves LEAST rows."""
LONGEST, LONGEST_ANSWER = 600, 200
"""Characters of a column's text and of an answer."""


@dataclass(frozen=True)
class WrongRow:
    """A row that some run got wrong."""

    number: int
    """The line of the predictions, from 1."""
    columns: Mapping[str, str]
    gold: str


@dataclass(frozen=True)
class WrongAnswer:
    """What a run answered to a row that it got wrong."""

    text: str
    probability: float | None
    """That of the answer; of a written text its logarithm."""
    gold: float | None
    """The probability of the right label, where answers are labels."""


@dataclass(frozen=True)
class RunRows:
    """How a run did on each row of its split."""

    rows: str
    """What identifies the rows."""
    count: int
    worst: tuple[int, ...]
    """The numbers of the wrong rows, the worst first."""
    wrong: Mapping[int, WrongAnswer]
    right: Mapping[int, float]
    """Rows that are right -> probability of the answer, where it has one."""
    content: Mapping[int, WrongRow]
    """The rows of `worst` that a set may take."""
    confusion: Confusion | None
    """None where answers are no classes."""


@dataclass
class RowSet:
    """The rows that runs of the same rows share."""

    rows: list[WrongRow] = field(default_factory=list)
    runs: list[RunRows] = field(default_factory=list)


def rows_of(run: ReportedRun, split: str, task: Task) -> RunRows | None:
    """A run's answers to the rows of a split; None if its predictions are missing or damaged."""
    try:
        read = predicted(run, split, task)
        found = mistakes(read)
    except Ptv2Error:
        return None
    wrong = {one.number: _answer(read, one) for one in found}
    content = {
        one.number: WrongRow(
            one.number, columns_of(one, read.task.gold_columns, LONGEST), _gold(read, one)
        )
        for one in found[:MOST]
    }
    mark = hashlib.sha256()
    for line in read.lines:
        mark.update(json.dumps([line["row"], line["gold"]], sort_keys=True).encode())
    try:
        classes = confusion(read)
    except InputError:
        classes = None
    return RunRows(
        mark.hexdigest(),
        len(read.lines),
        tuple(one.number for one in found),
        wrong,
        dict(_right(read, wrong)),
        content,
        classes,
    )


def row_sets(runs: Iterable[RunRows]) -> dict[str, RowSet]:
    """The rows that the page shows, by what identifies the rows of their split."""
    sets: dict[str, RowSet] = {}
    for run in runs:
        sets.setdefault(run.rows, RowSet()).runs.append(run)
    for own in sets.values():
        own.rows = _chosen(own.runs, max(LEAST, min(MOST, ANSWERS // len(own.runs))))
    return sets


def _chosen(runs: Sequence[RunRows], most: int) -> list[WrongRow]:
    """The worst row of each run, then the second worst, until there are `most`."""
    chosen: dict[int, WrongRow] = {}
    for rank in zip_longest(*(run.worst[:MOST] for run in runs)):
        for run, number in zip(runs, rank, strict=True):
            if number is not None and len(chosen) < most:
                chosen.setdefault(number, run.content[number])
    return [chosen[number] for number in sorted(chosen)]


def _right(read: RunPredictions, wrong: Mapping[int, WrongAnswer]) -> Iterable[tuple[int, float]]:
    key = {"writing": "log_probability", "text": "probability", "labels": "probability"}
    for number, line in enumerate(read.lines, 1):
        prediction = line["prediction"]
        if number in wrong or not isinstance(prediction, dict):
            continue
        if read.task.classed:
            chance = prediction.get("probabilities", {}).get(str(line["gold"]))
        else:
            chance = prediction.get(key.get(read.task.kind_spec.answer, ""))
        if chance is not None:
            yield number, float(chance)


def _answer(read: RunPredictions, one: Mistake) -> WrongAnswer:
    gold = 1 - one.size if read.task.classed else None
    return WrongAnswer(_short(_told(read, one, one.predicted)), one.confidence, gold)


def _gold(read: RunPredictions, one: Mistake) -> str:
    return _short(_told(read, one, one.gold))


def _told(read: RunPredictions, one: Mistake, answer: Any) -> str:
    """An answer as text: entities with their words, right answers one after the other."""
    if read.task.kind_spec.answer == "tags":
        found = entities(answer)
        texts = [f"{item.type} “{' '.join(one.words[item.start : item.end])}”" for item in found]
        return "; ".join(texts) or "(none)"
    if isinstance(answer, list):
        return " | ".join(dict.fromkeys(map(str, answer))) or "(no answer)"
    if isinstance(answer, float):
        return f"{answer:g}"
    return str(answer) if answer not in (None, "") else "(no answer)"


def _short(text: str) -> str:
    return excerpt(text, 0, LONGEST_ANSWER)
