"""The seed paper's tables, filled from any runs, with the published scores beside them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ptv2_cli.errors import InputError
from ptv2_cli.registry import METHODS
from ptv2_cli.report.paper.published import (
    MULTI,
    PublishedColumn,
    PublishedTable,
    published,
)
from ptv2_cli.report.runs import FoundRuns, ReportedRun, parts
from ptv2_cli.report.table import short_backbone

HERE = "here"
"""The source of scores that come from runs."""


@dataclass(frozen=True)
class PaperCell:
    """A score of a table, as a fraction."""

    mean: float
    sd: float | None = None
    """Sample standard deviation over the seeds; None for one seed and for published scores."""
    runs: tuple[ReportedRun, ...] = ()
    """The seeds of the setting that was chosen; none behind a published score."""


@dataclass(frozen=True)
class PaperRow:
    """A method on a backbone: its published scores, or those of the runs."""

    backbone: str
    method: str
    """As the table names it."""
    key: str
    """The method's name in a config; `multi` for P-tuning v2 on several tasks at once."""
    source: str
    """A source of published scores, or HERE."""
    cells: tuple[PaperCell | None, ...]


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper."""

    name: str
    title: str
    columns: tuple[PublishedColumn, ...]
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...] = ()


@dataclass
class _Runs:
    """The runs of one backbone and method, by column."""

    backbone: str
    method: str
    cells: dict[str, PaperCell] = field(default_factory=dict)


def paper_tables(found: FoundRuns) -> list[PaperTable]:
    """The tables that have a task of the runs, each with all published rows of it.

    A cell of the runs has those of one setting, which differ by their seed alone: of several
    settings the one with the best mean on the split that chose the epoch. Where the same task
    was scored on several sets of rows, the largest set counts.

    Raises:
        InputError: no run has a task of the tables.
    """
    views = [view for run in found.runs for view in parts(run) if not view.diverged]
    tables = [table for item in published().tables if (table := _filled(item, views))]
    if not tables:
        names = dict.fromkeys(column.task for item in published().tables for column in item.columns)
        tasks = ", ".join(dict.fromkeys(view.task for view in views)) or "none"
        what = f"no run is of a task of the paper's tables; the runs are of {tasks}"
        raise InputError.at("--layout paper", what, f"its tasks: {', '.join(names)}")
    return tables


def published_backbone(name: str) -> str:
    """The paper's name of a backbone, or the short form of a name that it does not have."""
    return published().names.get(name, short_backbone(name))


def _filled(item: PublishedTable, views: Sequence[ReportedRun]) -> PaperTable | None:
    groups: dict[tuple[str, str], _Runs] = {}
    notes: dict[str, None] = {}
    for column in item.columns:
        for (backbone, method), runs in _by_method(views, column).items():
            split = _split(column, runs)
            scored = [run for run in runs if _score(run, column, split) is not None]
            if not scored:
                continue
            if split != column.split:
                notes[
                    f"{column.name}: published scores are on {column.split}, those of "
                    f"{published_backbone(backbone)}, {method} here on {split}"
                ] = None
            group = groups.setdefault((backbone, method), _Runs(backbone, method))
            group.cells[column.name] = _cell(scored, column, split)
    if not groups:
        return None
    rows = [*_published_rows(item), *_own_rows(item, groups.values())]
    return PaperTable(
        item.name, item.title, item.columns, tuple(sorted(rows, key=_order)), tuple(notes)
    )


def _by_method(
    views: Sequence[ReportedRun], column: PublishedColumn
) -> dict[tuple[str, str], list[ReportedRun]]:
    """Backbone and method -> the runs of the column's task."""
    groups: dict[tuple[str, str], list[ReportedRun]] = {}
    for view in views:
        if view.task == column.task:
            key = str(view.metrics["backbone"]["name"]), _method(view)
            groups.setdefault(key, []).append(view)
    return groups


def _method(run: ReportedRun) -> str:
    several = run.prefix and run.method.startswith("ptuning_v2, ")
    return MULTI if several else run.method


def _split(column: PublishedColumn, runs: Sequence[ReportedRun]) -> str:
    """The published split if any of the runs reports it, else the one that they report."""
    reported = [run for run in runs if run.score(column.split, column.metric) is not None]
    return column.split if reported else runs[0].default_split()


def _score(run: ReportedRun, column: PublishedColumn, split: str) -> float | None:
    if column.corpus is None:
        return run.score(split, column.metric)
    corpora = run.metrics.get("detail", {}).get(split, {}).get("corpora", {})
    value = corpora.get(column.corpus, {}).get(column.metric)
    return None if value is None else float(value)


def _cell(runs: Sequence[ReportedRun], column: PublishedColumn, split: str) -> PaperCell:
    """The best setting of one method, on the largest set of rows."""
    most = max(run.data_of(split)[1] or 0 for run in runs)
    runs = [run for run in runs if (run.data_of(split)[1] or 0) == most]
    settings: dict[str, list[ReportedRun]] = {}
    for run in runs:
        data = run.data_of(split)[0]
        key = json.dumps([data, run.prompt_len, run.settings], sort_keys=True, default=str)
        settings.setdefault(key, []).append(run)
    sign = -1 if runs[0].metrics["selection"]["mode"] == "min" else 1
    best = max(settings.values(), key=lambda side: sign * statistics.fmean(map(_chosen_by, side)))
    values = [value for run in best if (value := _score(run, column, split)) is not None]
    sd = statistics.stdev(values) if len(values) > 1 else None
    return PaperCell(statistics.fmean(values), sd, tuple(best))


def _chosen_by(run: ReportedRun) -> float:
    """The score that chose the run's epoch; of one of several tasks, its own main score."""
    selection = run.metrics["selection"]
    own = run.score(str(selection["split"]), str(selection["metric"]))
    return float(selection.get("value") or 0.0) if own is None else own


def _published_rows(item: PublishedTable) -> Iterator[PaperRow]:
    for row in item.rows:
        cells = tuple(None if score is None else PaperCell(score) for score in row.scores)
        name = published().methods[row.method]
        yield PaperRow(row.backbone, name, row.method, row.source, cells)


def _own_rows(item: PublishedTable, groups: Iterable[_Runs]) -> Iterator[PaperRow]:
    for group in groups:
        name = published().methods.get(group.method, group.method)
        cells = tuple(group.cells.get(column.name) for column in item.columns)
        yield PaperRow(published_backbone(group.backbone), name, group.method, HERE, cells)


def _order(row: PaperRow) -> tuple[object, ...]:
    """Backbones and methods as the paper has them, then the others; published before here."""
    known, sources = published(), [*published().sources, HERE]
    backbones, methods = [*known.parameters], [*known.methods, *METHODS.names()]
    method = row.key.partition(",")[0]
    return (
        *_place(backbones, row.backbone),
        *_place(methods, method),
        row.method,
        sources.index(row.source),
    )


def _place(names: Sequence[str], name: str) -> tuple[int, str]:
    return (names.index(name), "") if name in names else (len(names), name)
