"""Tables whose cells are shaded: the grid of a sweep, and which class was taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ptv2_cli.report.build import values_of
from ptv2_cli.report.cells import Cell, Report, TableRow, TaskColumn
from ptv2_cli.report.html.shown_runs import mark_of
from ptv2_cli.report.table import MARKS, short_backbone
from ptv2_cli.report.text_table import percent

SHADES = 8
"""Shades of a cell, from 0 to SHADES - 1."""
LENGTH = "prompt_len"


@dataclass(frozen=True)
class Shaded:
    """A cell: its text and its shade; no shade where nothing was measured."""

    text: str
    shade: int | None = None
    best: bool = False
    run: str = ""
    """What names the run behind it in the page."""


@dataclass(frozen=True)
class HeatMap:
    """A table with shaded cells."""

    title: str
    down: str
    """What the rows are."""
    across: str
    """What the columns are."""
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Shaded]]]
    facts: Sequence[str] = ()


def grid_maps(report: Report, column: TaskColumn) -> list[HeatMap]:
    """A heat map for each method and backbone whose runs differ in two keys or more.

    The two keys with most values span it. If runs differ in others too, a cell is the best of them.
    """
    groups: dict[tuple[str, str], list[TableRow]] = {}
    for line in report.lines:
        if column in line.cells and line.cells[column].mean is not None:
            groups.setdefault((line.key.backbone, line.key.method), []).append(line)
    several = len({backbone for backbone, _ in groups}) > 1
    maps = []
    for (backbone, method), lines in groups.items():
        name = f"{method}, {short_backbone(backbone)}" if several else method
        made = _grid(name, column, lines)
        maps += [made] if made else []
    return maps


def _grid(name: str, column: TaskColumn, lines: Sequence[TableRow]) -> HeatMap | None:
    named = [*dict.fromkeys(key for line in lines for key in line.key.keys)]
    settings = [_settings(line, named) for line in lines]
    keys = dict.fromkeys(key for own in settings for key in own)
    values = {key: _sorted({own[key] for own in settings if key in own}) for key in keys}
    varied = sorted((key for key in keys if len(values[key]) > 1), key=lambda k: -len(values[k]))
    if len(varied) < 2:
        return None
    across, down, *others = varied
    best: dict[tuple[str, str], Cell] = {}
    for line, own in zip(lines, settings, strict=True):
        cell, place = line.cells[column], (own.get(down, ""), own.get(across, ""))
        if place not in best or (cell.mean or 0.0) > (best[place].mean or 0.0):
            best[place] = cell
    means = [cell.mean or 0.0 for cell in best.values()]
    low, high = min(means), max(means)
    rows = []
    for value in values[down]:
        shaded = []
        for other in values[across]:
            shaded.append(_shaded(best.get((value, other)), low, high))
        rows.append((value, shaded))
    facts = [f"each cell is the best over {', '.join(others)}"] if others else []
    return HeatMap(f"{name}: {down} by {across}", down, across, values[across], rows, facts)


def _settings(line: TableRow, keys: Sequence[str]) -> dict[str, str]:
    """The row's prompt length and its values of `keys`, which have short names."""
    length = {LENGTH: str(line.key.prompt_len)} if line.key.prompt_len else {}
    run = next(run for cell in line.cells.values() for run in cell.runs)
    pairs = zip(keys, values_of(run, keys), strict=True)
    return {**length, **{key.removeprefix("train."): value for key, value in pairs}}


def _sorted(values: set[str]) -> list[str]:
    """Numbers by value, then texts."""

    def order(text: str) -> tuple[int, float, str]:
        try:
            return 0, float(text), text
        except ValueError:
            return 1, 0.0, text

    return sorted(values, key=order)


def _shaded(cell: Cell | None, low: float, high: float) -> Shaded:
    if cell is None or cell.mean is None:
        return Shaded("-")
    share = (cell.mean - low) / (high - low) if high > low else 1.0
    word = cell.verdict.word if cell.verdict else ""
    text = f"{percent(cell.mean)}{MARKS.get(word, '')}"
    run = mark_of(cell.scored[0])
    return Shaded(text, round(share * (SHADES - 1)), word == "best", run)


def confusion_map(confusion: Mapping[str, Mapping[str, int]], title: str) -> HeatMap:
    """Gold classes down, predicted across, shaded by the share of the gold class."""
    names = [*dict.fromkeys([*confusion, *(name for row in confusion.values() for name in row)])]
    rows = []
    for gold, counts in confusion.items():
        total = max(sum(counts.values()), 1)
        cells = []
        for name in names:
            count = counts.get(name, 0)
            cells.append(Shaded(str(count), round(count / total * (SHADES - 1))))
        rows.append((gold, cells))
    return HeatMap(title, "gold", "predicted", names, rows)
