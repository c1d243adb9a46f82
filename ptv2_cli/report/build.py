"""Which runs share a row, a column and a cell of the table, and what has to be said of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ptv2_cli.errors import InputError
from ptv2_cli.registry import METHODS
from ptv2_cli.report.noise import Contest
from ptv2_cli.report.predictions import earlier_schema
from ptv2_cli.report.runs import Found, Run, parts
from ptv2_cli.report.settings import separating, unequal, values_of
from ptv2_cli.report.table import Cell, Column, Line, Report, RowKey


def build_report(found: Found, metric: str | None = None, split: str | None = None) -> Report:
    """Arrange runs in a table.

    Args:
        found: the runs.
        metric: one metric for all tasks; default: each run's selection metric.
        split: one split; default: validation, or the first that a run reports.

    Raises:
        InputError: no run has such a metric or split.
    """
    placed: dict[Column, list[Run]] = {}
    without: list[Run] = []
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
    notes = (*_notes(found, without, metric, split), *_stuck(report), *_unfair(report))
    return Report(columns, lines, notes)


def _views(run: Run, metric: str | None, split: str | None) -> Iterator[Run]:
    """A run of several tasks counts for each, unless one of its own scores is asked for."""
    if metric and run.score(split or run.default_split(), metric) is not None:
        yield run
    else:
        yield from parts(run)


def _column(run: Run, metric: str | None, split: str | None) -> Column | None:
    split = split or run.default_split()
    metric = metric or str(run.metrics["selection"]["metric"])
    if run.score(split, metric) is None and not run.diverged:
        return None
    return Column(run.task, split, metric, *run.data_of(split))


def _lines(placed: dict[Column, list[Run]]) -> tuple[Line, ...]:
    groups: dict[RowKey, dict[Column, list[Run]]] = {}
    for column, runs in placed.items():
        for run in runs:
            key = RowKey(_backbone(run), run.method, run.prompt_len)
            groups.setdefault(key, {}).setdefault(column, []).append(run)
    lines = [line for key, cells in groups.items() for line in _split(key, cells)]
    return tuple(sorted(lines, key=lambda line: _order(line.key)))


def _split(key: RowKey, cells: dict[Column, list[Run]]) -> Iterator[Line]:
    """One line for each setting that the runs of a group have."""
    keys = separating(cells.values())
    parts: dict[tuple[str, ...], dict[Column, list[Run]]] = {}
    for column, runs in cells.items():
        for run in runs:
            parts.setdefault(values_of(run, keys), {}).setdefault(column, []).append(run)
    for values, inner in parts.items():
        made = {
            column: Cell(column, tuple(sorted(runs, key=lambda run: run.seed)))
            for column, runs in inner.items()
        }
        yield Line(key._replace(keys=keys, values=values), made)


def _judged(lines: tuple[Line, ...], columns: Sequence[Column]) -> tuple[Line, ...]:
    """The lines with what can be said of each cell beside the best of its column."""
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
    return tuple(Line(line.key, cells) for line, cells in zip(lines, made, strict=True))


def _best(cells: Sequence[Cell]) -> Cell | None:
    """The cell of the best mean, the first of equals; None where there are not two."""
    if len(cells) < 2:
        return None
    selection = cells[0].runs[0].metrics["selection"]
    least = selection["metric"] == cells[0].column.metric and selection["mode"] == "min"
    return (min if least else max)(cells, key=lambda cell: cell.mean or 0.0)


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


def _backbone(run: Run) -> str:
    return str(run.metrics["backbone"]["name"])


def _notes(
    found: Found, without: Sequence[Run], metric: str | None, split: str | None
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
    """Runs that say nothing of what they were to learn."""
    cells = [cell for column in report.columns for cell in report.cells(column)]
    names = dict.fromkeys(run.name for cell in cells for run in cell.stuck)
    if names:
        yield f"one answer to all rows (docs/stuck.md): {_listed([*names])}"


def _unfair(report: Report) -> Iterator[str]:
    """What differs between the rows of a column although no method chooses it."""
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


def _nothing(runs: Sequence[Run], metric: str | None, split: str | None) -> InputError:
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
