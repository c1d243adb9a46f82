"""What the page knows of each run, as plain data for its script.

Texts that runs share (config values, columns of rows, answers) are written once, and runs name them
by their place: 500 runs then fit into a few megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ptv2_cli.errors import RunError
from ptv2_cli.report.cells import Report
from ptv2_cli.report.compare import facts_of
from ptv2_cli.report.html.rows import RowSet, RunRows, WrongRow
from ptv2_cli.report.html.shown_runs import ShownRun
from ptv2_cli.report.runs import plain

EVALUATIONS = 60
"""Points of a learning curve, at most."""
CLASSES = 30
"""Classes of a confusion matrix, at most."""


class _Texts:
    """Texts, each once; `place` says where."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        if text not in self._places:
            self._places[text] = len(self.texts)
            self.texts.append(text)
        return self._places[text]


def page_data(
    report: Report,
    entries: Sequence[ShownRun],
    rows: Mapping[str, RunRows],
    sets: Mapping[str, RowSet],
) -> dict[str, Any]:
    """The data of all runs.

    Args:
        report: the report.
        entries: its runs.
        rows: the answers of each entry that has readable predictions, by its mark.
        sets: the rows that are shown.
    """
    values = _Texts()
    facts = {entry.mark: facts_of(entry.run) for entry in entries}
    keys = [*dict.fromkeys(key for own in facts.values() for key in own)]
    order = {mark: number for number, mark in enumerate(sets)}
    answers = [_Texts() for _ in sets]
    seeds: dict[int, list[str]] = {}
    for entry in entries:
        seeds.setdefault(id(entry.cell), []).append(entry.mark)
    runs = []
    for entry in entries:
        own = facts[entry.mark]
        run: dict[str, Any] = {
            **_run(entry),
            "facts": [values.place(plain(own[key])) if key in own else -1 for key in keys],
            "seeds": [mark for mark in seeds[id(entry.cell)] if mark != entry.mark],
        }
        known = rows.get(entry.mark)
        if known is not None:
            number = order[known.rows]
            shown = sets[known.rows].rows
            run |= {"set": number, "wrong": len(known.worst), "count": known.count}
            run["answers"] = _answers(known, shown, answers[number])
            run["confusion"] = _confusion(known.confusion)
        runs.append(run)
    return {
        "columns": [
            {"name": report.names[column], **column._asdict()} for column in report.columns
        ],
        "keys": keys,
        "values": values.texts,
        "runs": runs,
        "sets": [
            {
                "rows": [
                    {"number": row.number, "columns": dict(row.columns), "gold": row.gold}
                    for row in own.rows
                ],
                "answers": texts.texts,
            }
            for own, texts in zip(sets.values(), answers, strict=True)
        ],
    }


def _run(entry: ShownRun) -> dict[str, Any]:
    run, metrics = entry.run, entry.run.metrics
    final = metrics.get("final", {})
    return {
        "mark": entry.mark,
        "name": run.name,
        "directory": str(run.directory.path),
        "command": run.directory.repeat_command,
        "column": entry.at,
        "title": _title(entry),
        "seed": run.seed,
        "status": metrics["status"],
        "epoch": metrics["selection"]["epoch"],
        "error": _rounded(entry.error),
        "scores": [
            [split, name, _rounded(value), _rounded(final.get(split, {}).get(name))]
            for split, scores in metrics["metrics"].items()
            for name, value in scores.items()
        ],
        "figures": _figures(entry),
        "data": [
            [split, data["rows"], data["sha256"], data.get("truncated_rows")]
            for split, data in metrics["data"].items()
        ],
        "warnings": list(metrics["warnings"]),
        "started": str((metrics.get("provenance") or {}).get("command") or ""),
        "history": _history(entry),
    }


def _title(entry: ShownRun) -> str:
    key = entry.line.key
    length = f"p{key.prompt_len}" if key.prompt_len else ""
    words = " ".join(filter(None, (key.method, length)))
    return ", ".join(filter(None, (words, key.setting, f"seed {entry.run.seed}")))


def _figures(entry: ShownRun) -> list[list[Any]]:
    """Name, value and unit of what the run used."""
    metrics = entry.run.metrics
    parameters, timing = metrics["parameters"], metrics["timing"]
    found = [
        ["values that train", parameters["trainable"], "count"],
        ["of them in the prompt", parameters["prompt"], "count"],
        ["share that trains", parameters["trainable_percent"], "%"],
        ["training", timing["train_seconds"], "s"],
        ["examples per second", timing["examples_per_second"], ""],
        ["peak memory", entry.run.peak_bytes, "bytes"],
        ["evaluations", metrics.get("evaluations"), "count"],
    ]
    return [[name, _rounded(value), unit] for name, value, unit in found if value is not None]


def _history(entry: ShownRun) -> list[list[float | None]]:
    """Epoch, score, train loss and validation loss of evenly chosen evaluations."""
    run = entry.run
    name, task = f"{run.prefix}{entry.column.metric}", run.prefix.removesuffix(".")
    try:
        lines = run.directory.read_history()
    except RunError:
        return []
    every = max(1, -(-len(lines) // EVALUATIONS))
    kept = [line for at, line in enumerate(lines) if at % every == 0 or at == len(lines) - 1]
    return [
        [
            _rounded(line["epoch"]),
            _rounded(line["metrics"].get(name)),
            None if task else _rounded(line.get("train_loss")),
            _rounded(
                line.get("validation_losses", {}).get(task) if task else line.get("validation_loss")
            ),
        ]
        for line in kept
    ]


def _answers(known: RunRows, shown: Sequence[WrongRow], texts: _Texts) -> list[Any]:
    """For each row shown: the probability where it is right, else text, probability, gold's."""
    answers: list[Any] = []
    for row in shown:
        wrong = known.wrong.get(row.number)
        if wrong is None:
            answers.append(_rounded(known.right.get(row.number), 3))
        else:
            chances = (_rounded(wrong.probability, 3), _rounded(wrong.gold, 3))
            answers.append([texts.place(wrong.text), *chances])
    return answers


def _confusion(table: Mapping[str, Mapping[str, int]] | None) -> dict[str, Any] | None:
    """Names, and gold, predicted and count of the cells that are not empty."""
    if table is None or len(table) > CLASSES:
        return None
    names = list(table)
    places = {name: at for at, name in enumerate(names)}
    cells = [
        [places[gold], places[guess], count]
        for gold, row in table.items()
        for guess, count in row.items()
        if count
    ]
    return {"names": names, "cells": cells}


def _rounded(value: float | None, digits: int = 6) -> float | None:
    """A number with so many significant digits; None for none and for what JSON lacks."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return None
    if isinstance(value, int):
        return value
    return float(f"{value:.{digits}g}")
