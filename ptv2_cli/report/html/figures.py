"""The plots of each task: which there are, and what could not be drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ptv2_cli.errors import RunError
from ptv2_cli.report.cells import Report, TaskColumn
from ptv2_cli.report.html.charts import Chart, line_chart, tradeoff_chart
from ptv2_cli.report.html.heat_maps import HeatMap, confusion_map, grid_maps
from ptv2_cli.report.html.rows import RunRows
from ptv2_cli.report.html.shown_runs import ShownRun
from ptv2_cli.report.pictures.curves import (
    LOG_SCALES,
    Picture,
    by_depth,
    by_learning_rate,
    by_prompt_length,
    by_train_rows,
    learning_curves,
    loss_curves,
)
from ptv2_cli.report.pictures.pareto import tradeoffs

CLASSES = 20
"""Classes of a confusion matrix, at most; `ptv2 errors --plot` draws larger ones."""


@dataclass(frozen=True)
class TaskFigures:
    """The plots of one task."""

    at: int
    """Which of the report's columns it is."""
    name: str
    about: str
    """The task's whole name, the split and its rows."""
    charts: Sequence[Chart]
    maps: Sequence[HeatMap]
    notes: Sequence[str]


def task_figures(
    report: Report, entries: Sequence[ShownRun], rows: dict[str, RunRows]
) -> list[TaskFigures]:
    """The plots of all tasks, in the order of the report's columns."""
    return [_figures(report, at, entries, rows) for at in range(len(report.columns))]


def _figures(
    report: Report, at: int, entries: Sequence[ShownRun], rows: dict[str, RunRows]
) -> TaskFigures:
    column = report.columns[at]
    charts: list[Chart] = []
    notes: list[str] = []
    drawings: list[tuple[str, str, Callable[[Report, TaskColumn], Picture | None], str]] = [
        ("Learning curves", "training (epochs)", learning_curves, ""),
        ("Loss (dotted: train)", "training (epochs)", loss_curves, "loss"),
        ("By prompt length", LOG_SCALES["prompt-length"], by_prompt_length, "log"),
        ("By learning rate", LOG_SCALES["learning-rate"], by_learning_rate, "log"),
        ("By train rows", LOG_SCALES["train-rows"], by_train_rows, "log"),
        ("By depth", "layers with prompts", by_depth, ""),
    ]
    for title, x_label, read, how in drawings:
        try:
            picture = read(report, column)
        except RunError as error:
            notes.append(f"{title}: {error.problems[0].where} {error.problems[0].what}")
            continue
        if picture is not None and picture.series:
            loss, log = how == "loss", how == "log"
            charts.append(line_chart(picture, title, x_label, log=log, loss=loss))
    if points := tradeoffs(report, column):
        charts.append(tradeoff_chart(points, column, "By share that trains"))
    maps = [*grid_maps(report, column), *_confusions(at, entries, rows)]
    count = "" if column.rows is None else f", {column.rows} rows"
    about = f"{column.task}, {column.split}{count}, data {column.sha256[:8]}"
    return TaskFigures(at, report.names[column], about, charts, maps, notes)


def _confusions(at: int, entries: Sequence[ShownRun], rows: dict[str, RunRows]) -> list[HeatMap]:
    """The confusion matrix of the first run of the best setting."""
    own = [entry for entry in entries if entry.at == at and entry.mark in rows]
    best = [entry for entry in own if entry.cell.verdict and entry.cell.verdict.best]
    for entry in [*best, *own][:1]:
        found = rows[entry.mark].confusion
        if found is not None and len(found) <= CLASSES:
            return [confusion_map(found, f"Confusion of {entry.run.name}")]
    return []
