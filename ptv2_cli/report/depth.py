"""Scores by the number of layers that have prompts (P-tuning v2, arXiv 2110.07602, figure 3)."""

from __future__ import annotations

import re

from ptv2_cli.report.curves import Picture, Series, picture_of, points
from ptv2_cli.report.table import Cell, Column, Line, Report

KEY = "method.layers"
_END = re.compile(r"(first|last):(\d+)")
_NAMES = {"first": "the first k layers", "last": "the last k layers"}


def by_depth(report: Report, column: Column) -> Picture | None:
    """The best setting's score for the first k and for the last k layers; None without two k."""
    best: dict[str, dict[float, Cell]] = {}
    for line in report.lines:
        found = _END.fullmatch(_layers(line) or "")
        cell = line.cells.get(column)
        if found is None or cell is None or cell.mean is None:
            continue
        cells = best.setdefault(found[1], {})
        at = float(found[2])
        if at not in cells or cell.mean > (cells[at].mean or 0.0):
            cells[at] = cell
    series: list[Series] = [points(_NAMES[end], cells) for end, cells in sorted(best.items())]
    if not any(len(one.x) > 1 for one in series):
        return None
    return picture_of(report, column, series)


def _layers(line: Line) -> str | None:
    settings = dict(zip(line.key.keys, line.key.values, strict=True))
    return settings.get(KEY)
