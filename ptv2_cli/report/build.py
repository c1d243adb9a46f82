"""Runs arranged in a table, and the notes below it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ptv2_cli.errors import InputError
from ptv2_cli.registry import METHODS
from ptv2_cli.report.cells import Cell, Report, RowKey, TableRow, TaskColumn
from ptv2_cli.report.noise import Contest
from ptv2_cli.report.predictions import earlier_schema
from ptv2_cli.report.runs import FoundRuns, ReportedRun, parts, plain

FIRST = ("train.lr", "method.reparam", "method.layers", "method.init", "head.pooling")
"""Keys to name first if several separate two runs."""
METHOD_CHOICES = (
    *("method.", "head.", "train.lr", "train.weight_decay", "train.warmup"),
    "checkpoint",
)
"""Keys that have a default for each method or mark an imported run: a difference is fair."""


def build_report(found: FoundRuns, metric: str | None = None, split: str | None = None) -> Report:
    """Arrange runs in a table.

    Args:
        found: the runs.
        metric: one metric for all tasks; default: each run's selection metric.
        split: one split; default: validation, or the first that a run reports.

    Raises:
        InputError: no run has such a metric or split.
    """
    placed: dict[TaskColumn, list[ReportedRun]] = {}
    without: list[ReportedRun] = []
    views = [view for run in found.runs for view in _views(run, metric, split)]
    for run in views:
        column = _column(run, metric, split)
        if column is None:
            without.append(run)
        else:
            placed.setdefault(column, []).append(run)
    if not placed:
        raise _nothing(found.runs, metric, split)
    columns = tuple(sorted(placed))
    lines = _judged(_lines(placed), columns)
    report = Report(columns, lines, ())
    notes = (
        *_notes(found, without, metric, split),
        *_stuck(report),
        *_unfair(report),
        *_texts(report),
    )
    return Report(columns, lines, notes)


def _views(run: ReportedRun, metric: str | None, split: str | None) -> Iterator[ReportedRun]:
    """A run of several tasks counts for each, unless one of its own scores is asked for."""
    if metric and run.score(split or run.default_split(), metric) is not None:
        yield run
    else:
        yield from parts(run)


def _column(run: ReportedRun, metric: str | None, split: str | None) -> TaskColumn | None:
    split = split or run.default_split()
    metric = metric or str(run.metrics["selection"]["metric"])
    if run.score(split, metric) is None and not run.diverged:
        return None
    return TaskColumn(run.task, split, metric, *run.data_of(split))


def _lines(placed: dict[TaskColumn, list[ReportedRun]]) -> tuple[TableRow, ...]:
    groups: dict[RowKey, dict[TaskColumn, list[ReportedRun]]] = {}
    for column, runs in placed.items():
        for run in runs:
            key = RowKey(_backbone(run), run.method, run.prompt_len)
            groups.setdefault(key, {}).setdefault(column, []).append(run)
    lines = [line for key, cells in groups.items() for line in _split(key, cells)]
    return tuple(sorted(lines, key=lambda line: _order(line.key)))


def _split(key: RowKey, cells: dict[TaskColumn, list[ReportedRun]]) -> Iterator[TableRow]:
    """One line for each setting that the runs of a group have."""
    keys = separating(cells.values())
    parts: dict[tuple[str, ...], dict[TaskColumn, list[ReportedRun]]] = {}
    for column, runs in cells.items():
        for run in runs:
            parts.setdefault(values_of(run, keys), {}).setdefault(column, []).append(run)
    for values, inner in parts.items():
        made = {
            column: Cell(column, tuple(sorted(runs, key=lambda run: run.seed)))
            for column, runs in inner.items()
        }
        yield TableRow(key._replace(keys=keys, values=values), made)


def _judged(lines: tuple[TableRow, ...], columns: Sequence[TaskColumn]) -> tuple[TableRow, ...]:
    """The rows, each cell with its test against the best of its column."""
    made = [dict(line.cells) for line in lines]
    for column in columns:
        cells = [cells[column] for cells in made if column in cells]
        best = _best([cell for cell in cells if cell.mean is not None])
        if best is None:
            continue
        settings = [cell.scored for cell in cells]
        contest = Contest(settings, cells.index(best), column.split, column.metric)
        verdicts = iter(contest.verdicts())
        for own in made:
            if column in own:
                own[column] = replace(own[column], verdict=next(verdicts))
    return tuple(TableRow(line.key, cells) for line, cells in zip(lines, made, strict=True))


def _best(cells: Sequence[Cell]) -> Cell | None:
    """The cell with the best mean, the first of equals; None if there are fewer than two."""
    if len(cells) < 2:
        return None
    return (min if cells[0].lower_is_better else max)(cells, key=lambda cell: cell.mean or 0.0)


def _order(key: RowKey) -> tuple[Any, ...]:
    """Methods as the registry lists them, then by length, then by value, numbers as numbers."""
    methods = METHODS.names()
    name = key.method.partition(",")[0]  # `ptuning_v2, 2 tasks`
    place = methods.index(name) if name in methods else len(methods)
    values = tuple((0, _number(v), v) if _is_number(v) else (1, 0.0, v) for v in key.values)
    return key.backbone, place, key.method, key.prompt_len or 0, key.keys, values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    return float(text)


def _backbone(run: ReportedRun) -> str:
    return str(run.metrics["backbone"]["name"])


def _notes(
    found: FoundRuns, without: Sequence[ReportedRun], metric: str | None, split: str | None
) -> Iterator[str]:
    if found.unfinished:
        names = [run.path.name for run in found.unfinished]
        yield f"unfinished, not counted: {_listed(names)}"
    if found.copies:
        yield f"copies of runs already counted: {_listed([run.path.name for run in found.copies])}"
    if without:
        asked = " on ".join(filter(None, (metric, split))) or "score"
        yield f"without {asked}, left out: {_listed([run.name for run in without])}"
    earlier = earlier_schema(found.runs)
    if earlier is not None:
        yield earlier
    diverged = [run.name for run in found.runs if run.diverged]
    if diverged:
        yield f"diverged, in no mean: {_listed(diverged)}"


def _stuck(report: Report) -> Iterator[str]:
    """Runs that give every row the same answer."""
    cells = [cell for column in report.columns for cell in report.cells(column)]
    names = dict.fromkeys(run.name for cell in cells for run in cell.stuck)
    if names:
        yield f"one answer to all rows (docs/stuck.md): {_listed([*names])}"


def _texts(report: Report) -> Iterator[str]:
    """Figures of retention that do not compare."""
    if len(report.texts) > 1:
        yield f"KL elsewhere was measured on {len(report.texts)} different texts"


def _unfair(report: Report) -> Iterator[str]:
    """Settings that differ between the rows of a column but do not belong to a method."""
    for column in report.columns:
        cells = report.cells(column)
        shown = {key for line in report.lines if column in line.cells for key in line.key.keys}
        found = {
            key: values
            for key, values in unequal([run for cell in cells for run in cell.runs]).items()
            if key not in shown and not key.startswith("backbone.")
        }
        if found:
            texts = [f"{key} ({', '.join(values)})" for key, values in found.items()]
            yield f"rows of {report.names[column]} differ in {_listed(texts, 4)}"


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)}: {shown}{more}" if len(names) > 1 else shown


def _nothing(runs: Sequence[ReportedRun], metric: str | None, split: str | None) -> InputError:
    splits = sorted({name for run in runs for name in run.metrics["metrics"]})
    metrics = sorted(
        {name for run in runs for scores in run.metrics["metrics"].values() for name in scores}
    )
    asked = " ".join(
        f"--{flag} {value}" for flag, value in (("split", split), ("metric", metric)) if value
    )
    return InputError.at(
        asked or "report",
        "no run has such a score",
        f"splits: {', '.join(splits)}; metrics: {', '.join(metrics)}",
    )


def separating(cells: Iterable[Sequence[ReportedRun]]) -> tuple[str, ...]:
    """The fewest keys that separate the settings of each cell's runs, in order.

    A cell holds the runs of one row and column, which may differ in their seed only: otherwise its
    mean would mix settings. A key counts if it splits a group that the keys before it did not.
    """
    groups = [list(cell) for cell in cells]
    chosen: list[str] = []
    for key in _ordered(_differing(groups)):
        parts = [part for group in groups for part in _by_value(group, key)]
        if len(parts) > len(groups):
            chosen.append(key)
            groups = parts
    return tuple(chosen)


def values_of(run: ReportedRun, keys: Sequence[str]) -> tuple[str, ...]:
    """The run's values of `keys`, as text."""
    return tuple(plain(run.settings.get(key)) for key in keys)


def unequal(runs: Sequence[ReportedRun]) -> dict[str, list[str]]:
    """Keys in which compared runs differ but which do not belong to a method, with their values.

    More epochs, other data or another precision make a comparison unfair.
    """
    found: dict[str, list[str]] = {}
    for key in _ordered(_differing([runs])):
        if not key.startswith(METHOD_CHOICES):
            found[key] = sorted({plain(run.settings.get(key)) for run in runs})
    return found


def _differing(groups: Iterable[Sequence[ReportedRun]]) -> set[str]:
    keys: set[str] = set()
    for group in groups:
        for key in {key for run in group for key in run.settings}:
            if len({_hashable(run.settings.get(key)) for run in group}) > 1:
                keys.add(key)
    return keys


def _ordered(keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=lambda key: (FIRST.index(key) if key in FIRST else len(FIRST), key))


def _by_value(group: Sequence[ReportedRun], key: str) -> list[list[ReportedRun]]:
    parts: dict[Hashable, list[ReportedRun]] = {}
    for run in group:
        parts.setdefault(_hashable(run.settings.get(key)), []).append(run)
    return list(parts.values())


def _hashable(value: Any) -> Hashable:
    if isinstance(value, list | tuple):
        return tuple(_hashable(inner) for inner in value)
    return str(value) if isinstance(value, Mapping) else value
