"""What the pictures show: scores over training, and by a setting that is a number."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ptv2_cli.report.cells import Cell, Report, RowKey, TableRow, TaskColumn
from ptv2_cli.report.runs import ReportedRun
from ptv2_cli.report.table import short_backbone

LEAST = 0.02
"""Fraction that a picture's y axis spans at least, however many rows were scored."""
MOST = 8
"""Lines that one picture can tell apart."""
TRAIN_ROWS = "task.limit.train"
LOG_SCALES = {
    "prompt-length": "prompt length (tokens, log scale)",
    "learning-rate": "peak learning rate (log scale)",
    "train-rows": "train rows (log scale)",
}
"""Pictures by a setting, and what their x axes say."""


@dataclass(frozen=True)
class Series:
    """One line of a picture."""

    label: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    """Scores as fractions, as `x`."""
    sd: tuple[float | None, ...]
    """Sample standard deviation over the runs, None for a single one."""
    beside: bool = False
    """Whether it belongs to the line before it, whose colour it has."""
    error: tuple[float | None, ...] = ()
    """Standard error over rows where a single run stands, as `x`; None where not known."""

    @property
    def best(self) -> float:
        """The highest score."""
        return max(self.mean)


@dataclass(frozen=True)
class Picture:
    """All that is drawn for one task."""

    column: TaskColumn
    split: str
    """The split that the scores are of."""
    series: tuple[Series, ...]
    levels: tuple[tuple[str, float], ...] = ()
    """Horizontal lines: methods that `x` means nothing to, the majority baseline."""
    left_out: int = 0
    """Lines beyond MOST."""
    least_span: float = 0.0
    """What the y axis must span at least, a fraction: a step within the noise is no cliff."""


def learning_curves(report: Report, column: TaskColumn) -> Picture:
    """The column's metric on the selection split, by epoch; means over the seeds of a row.

    Raises:
        RunError: a run's history.jsonl is missing or damaged.
    """
    series = []
    for line in report.lines:
        cell = line.cells.get(column)
        histories = [_history(run, column.metric) for run in cell.scored] if cell else []
        epochs = (
            sorted(set.intersection(*(set(history) for history in histories))) if histories else []
        )
        if epochs:
            values = [[history[epoch] for history in histories] for epoch in epochs]
            line_of_setting = _series(_label(report, line, column), epochs, values)
            series.append(replace(line_of_setting, error=_at_chosen(cell, epochs)))
    return _picture(report, column, series, _majority(report, column), _chosen_on(report, column))


def loss_curves(report: Report, column: TaskColumn) -> Picture | None:
    """Train and validation loss by epoch, two lines for each row of the report; means over seeds.

    The rows with the best scores, where there are more than a picture can tell apart. One of
    several tasks has no train loss of its own. None where no history has a validation loss.

    Raises:
        RunError: a run's history.jsonl is missing or damaged.
    """
    lines = [line for line in report.lines if column in line.cells]
    best = sorted(lines, key=lambda line: -(_mean(line, column) or 0.0))[: MOST // 2]
    series = []
    for line in (line for line in lines if line in best):
        for key, name in (("validation_loss", "validation"), ("train_loss", "train")):
            histories = [_losses(run, key) for run in line.cells[column].scored]
            epochs = (
                sorted(set.intersection(*(set(history) for history in histories)))
                if histories
                else []
            )
            if not epochs:
                break
            values = [[history[epoch] for history in histories] for epoch in epochs]
            line_of_setting = _series(f"{_label(report, line, column)}, {name}", epochs, values)
            series.append(replace(line_of_setting, beside=key == "train_loss"))
    split = _chosen_on(report, column)
    left_out = len(lines) - len(best)
    return Picture(column, split, tuple(series), (), left_out) if series else None


def by_prompt_length(report: Report, column: TaskColumn) -> Picture | None:
    """Scores by prompt length in tokens; methods without prompt as levels.

    A line per setting where all lengths of a method were tried with the same settings, else a
    line of the best setting length. None if no method has two lengths.
    """
    lines = _scored(report, column)
    lengths = [line for line in lines if line.key.prompt_len]
    groups = _group(lengths, lambda line: (line.key.backbone, line.key.method))
    series = [one for group in groups for one in _lengths(report, column, group)]
    if not any(len(one.x) > 1 for one in series):
        return None
    flat = _group([x for x in lines if not x.key.prompt_len], lambda line: line.key[:2])
    levels = []
    for group in flat:
        best = max(group, key=lambda line: _mean(line, column) or 0.0)
        levels.append((row_name(report, best), _mean(best, column) or 0.0))
    return _picture(report, column, series, [*levels, *_majority(report, column)])


def by_learning_rate(report: Report, column: TaskColumn) -> Picture | None:
    """Scores by peak learning rate, a line per row but for the rate. None without two rates."""
    lines = [line for line in _scored(report, column) if _rated(line.cells[column])]
    at = {line.key: _rate(line.cells[column]) for line in lines}
    return _by_number(report, column, "train.lr", at)


def by_train_rows(report: Report, column: TaskColumn) -> Picture | None:
    """Scores by `task.limit.train`, a line per row but for it. None without two such numbers."""
    at = {}
    for line in _scored(report, column):
        settings = dict(zip(line.key.keys, line.key.values, strict=True))
        if settings.get(TRAIN_ROWS, "").isdecimal():
            at[line.key] = float(settings[TRAIN_ROWS])
    return _by_number(report, column, TRAIN_ROWS, at)


def _by_number(
    report: Report, column: TaskColumn, key: str, at: Mapping[RowKey, float]
) -> Picture | None:
    """Scores by the value `at` of each row's `key`, a line for rows that differ in no other."""
    lines = [line for line in report.lines if line.key in at]
    series = [
        points(
            ", ".join([row_name(report, group[0]), *map(" ".join, _others(group[0], key))]),
            {at[line.key]: line.cells[column] for line in group},
        )
        for group in _group(lines, lambda line: (*line.key[:3], _others(line, key)))
    ]
    if not any(len(one.x) > 1 for one in series):
        return None
    return _picture(report, column, series, _majority(report, column))


def _scored(report: Report, column: TaskColumn) -> list[TableRow]:
    return [line for line in report.lines if _mean(line, column) is not None]


def _lengths(report: Report, column: TaskColumn, group: Sequence[TableRow]) -> list[Series]:
    """The lines of one method in the picture of lengths."""
    settings = _group(group, lambda line: (line.key.keys, line.key.values))
    lengths = {line.key.prompt_len for line in group}
    method = _method(report, group[0])
    whole = all(len(inner) == len(lengths) for inner in settings)
    if len(settings) == 1 or (whole and len(settings) <= MOST):
        return [
            points(
                ", ".join(filter(None, (method, inner[0].key.setting))),
                {float(line.key.prompt_len or 0): line.cells[column] for line in inner},
            )
            for inner in settings
        ]
    best: dict[float, Cell] = {}
    for line in group:
        cell, at = line.cells[column], float(line.key.prompt_len or 0)
        if at not in best or (cell.mean or 0.0) > (best[at].mean or 0.0):
            best[at] = cell
    return [points(f"{method}, best setting", best)]


def picture_of(report: Report, column: TaskColumn, series: Sequence[Series]) -> Picture:
    """A picture of the reported split, with the majority baseline."""
    return _picture(report, column, series, _majority(report, column))


def points(label: str, cells: dict[float, Cell]) -> Series:
    """A line through cells by their place on the x axis."""
    made = _series(label, sorted(cells), [cells[at].values for at in sorted(cells)])
    return replace(made, error=tuple(_single(cells[at]) for at in sorted(cells)))


def _single(cell: Cell) -> float | None:
    """The standard error over rows of a cell of one run: what stands in for a spread of seeds."""
    return cell.error if len(cell.values) == 1 else None


def _at_chosen(cell: Cell | None, epochs: Sequence[float]) -> tuple[float | None, ...]:
    """The standard error of a single run, at the epoch that was chosen: it is known of no other."""
    if cell is None or _single(cell) is None:
        return ()
    chosen = cell.scored[0].metrics["selection"].get("epoch")
    return tuple(_single(cell) if epoch == chosen else None for epoch in epochs)


def _series(label: str, x: Sequence[float], values: Sequence[Sequence[float]]) -> Series:
    return Series(
        label,
        tuple(x),
        tuple(statistics.fmean(found) for found in values),
        tuple(statistics.stdev(found) if len(found) > 1 else None for found in values),
    )


def _picture(
    report: Report,
    column: TaskColumn,
    series: Sequence[Series],
    levels: Sequence[tuple[str, float]],
    split: str = "",
) -> Picture:
    """Of too many lines the best ones, in their old order."""
    kept = sorted(series, key=lambda one: -one.best)[:MOST]
    shown = tuple(one for one in series if one in kept)
    left_out = len(series) - len(shown)
    span = _least_span(report, column)
    return Picture(column, split or column.split, shown, tuple(levels), left_out, span)


def _least_span(report: Report, column: TaskColumn) -> float:
    """Six standard errors of a score, at least LEAST.

    Where none is known, of a share of the split's rows: at most 0.5 / sqrt(rows).
    """
    error = report.error(column)
    if error is None and column.rows:
        error = 0.5 / math.sqrt(column.rows)
    return max(LEAST, 6 * (error or 0.0))


def _chosen_on(report: Report, column: TaskColumn) -> str:
    """The splits that the histories of a column are of."""
    splits = {
        str(run.metrics["selection"]["split"])
        for line in report.lines
        for run in (line.cells[column].runs if column in line.cells else ())
    }
    return ", ".join(sorted(splits))


def _history(run: ReportedRun, metric: str) -> dict[float, float]:
    """Epoch -> score on the selection split."""
    name = f"{run.prefix}{metric}"
    return _read(run, lambda line: line["metrics"].get(name))


def _losses(run: ReportedRun, key: str) -> dict[float, float]:
    """Epoch -> loss. Of one of several tasks only the validation loss is known."""
    if not run.prefix:
        return _read(run, lambda line: line.get(key))
    if key == "train_loss":
        return {}
    task = run.prefix.removesuffix(".")
    return _read(run, lambda line: line.get("validation_losses", {}).get(task))


def _read(run: ReportedRun, value: Callable[[Any], float | None]) -> dict[float, float]:
    """Epoch -> what `value` takes from its line of history.jsonl, where that has it."""
    values = {line["epoch"]: value(line) for line in run.directory.read_history()}
    return {epoch: number for epoch, number in values.items() if number is not None}


def _majority(report: Report, column: TaskColumn) -> list[tuple[str, float]]:
    score = report.majority(column)
    return [("majority baseline", score)] if score else []


def _group(lines: Sequence[TableRow], key: Callable[[TableRow], Hashable]) -> list[list[TableRow]]:
    groups: dict[Hashable, list[TableRow]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return list(groups.values())


def _mean(line: TableRow, column: TaskColumn) -> float | None:
    return line.cells[column].mean if column in line.cells else None


def _rate(cell: Cell) -> float:
    return float(cell.runs[0].settings["train.lr"])


def _rated(cell: Cell) -> bool:
    """Whether anything trained here: without, the rate is null or that of an unused config."""
    run = cell.runs[0]
    return not run.imported and run.settings["train.lr"] not in (None, "auto")


def _others(line: TableRow, but: str) -> tuple[tuple[str, str], ...]:
    pairs = zip(line.key.keys, line.key.values, strict=True)
    return tuple((key.partition(".")[2] or key, v) for key, v in pairs if key != but)


def _method(report: Report, line: TableRow) -> str:
    several = len({other.key.backbone for other in report.lines}) > 1
    return f"{line.key.method}, {short_backbone(line.key.backbone)}" if several else line.key.method


def row_name(report: Report, line: TableRow) -> str:
    """A row by its method and prompt length, and its backbone where there are several."""
    length = f" p{line.key.prompt_len}" if line.key.prompt_len else ""
    return f"{_method(report, line)}{length}"


def _label(report: Report, line: TableRow, column: TaskColumn) -> str:
    """The line's name in one picture; with its setting where another line has the same name."""
    same = [
        other for other in report.lines if column in other.cells and other.key[:3] == line.key[:3]
    ]
    name = row_name(report, line)
    return name if len(same) == 1 else f"{name}, {line.key.setting}"


KEY = "method.layers"
_END = re.compile(r"(first|last):(\d+)")
_NAMES = {"first": "the first k layers", "last": "the last k layers"}


def by_depth(report: Report, column: TaskColumn) -> Picture | None:
    """The best setting's score for the first k and for the last k layers; None without two k."""
    best: dict[str, dict[float, Cell]] = {}
    for line in report.lines:
        match = _END.fullmatch(_layers(line) or "")
        cell = line.cells.get(column)
        if match is None or cell is None or cell.mean is None:
            continue
        cells = best.setdefault(match[1], {})
        layers = float(match[2])
        if layers not in cells or cell.mean > (cells[layers].mean or 0.0):
            cells[layers] = cell
    series: list[Series] = [points(_NAMES[end], cells) for end, cells in sorted(best.items())]
    if not any(len(one.x) > 1 for one in series):
        return None
    return picture_of(report, column, series)


def _layers(line: TableRow) -> str | None:
    settings = dict(zip(line.key.keys, line.key.values, strict=True))
    return settings.get(KEY)
