"""Scores per class, per entity type or per kind of question, over the runs of a cell."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptv2_cli.report.cells import Cell, Report
from ptv2_cli.report.text_table import Grid, percent

PARTS = {
    "classes": "class",
    "choices": "choice",
    "types": "entity type",
    "roles": "role",
    "corpora": "corpus",
    "questions": "questions",
}
"""Tables of detail, and what their rows are."""
COUNTS = ("support", "rows")


@dataclass(frozen=True)
class Detail:
    """The detailed scores of a cell's runs."""

    name: str
    runs: int
    parts: dict[str, dict[str, dict[str, float]]]
    """Part -> name -> figure -> mean over the runs: fractions, and counts as they are."""
    figures: dict[str, float]
    """Single numbers, such as the mean absolute error: means over the runs."""
    confusion: dict[str, dict[str, int]] | None
    """Gold -> predicted -> rows, added up over the runs; None where there are no classes."""

    @property
    def title(self) -> str:
        """The name, and over how many runs the figures are."""
        over = f", mean of {self.runs} runs" if self.runs > 1 else ""
        summed = ", confusions added up" if self.runs > 1 and self.confusion else ""
        return f"{self.name}{over}{summed}"

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        own = {"name": self.name, "runs": self.runs, **self.parts, **self.figures}
        return own if self.confusion is None else {**own, "confusion": self.confusion}

    def grids(self) -> list[Grid]:
        """A table per part, and the confusion matrix: gold classes down, predicted across."""
        tables = []
        for part, rows in self.parts.items():
            figures = list(next(iter(rows.values())))
            body = [[name, *(_figure(f, row[f]) for f in figures)] for name, row in rows.items()]
            tables.append(Grid([PARTS[part], *figures], body, 1))
        if self.figures:
            body = [[name.replace("_", " "), f"{v:.4g}"] for name, v in self.figures.items()]
            tables.append(Grid(["figure", "value"], body, 1))
        if self.confusion is not None:
            tables.append(_matrix(self.confusion))
        return tables


def details(report: Report) -> list[Detail]:
    """The detail of every cell that has any, row by row."""
    details_of_cells = []
    for line in report.lines:
        length = f"p{line.key.prompt_len}" if line.key.prompt_len else ""
        row = " ".join(filter(None, (line.key.method, length, line.key.setting)))
        for column, cell in line.cells.items():
            if cell.scored:
                details_of_cells.append(_of(f"{report.names[column]}, {row}", cell))
    return [detail for detail in details_of_cells if detail.grids()]


def _matrix(confusion: Mapping[str, Mapping[str, int]]) -> Grid:
    classes = list(confusion)
    body = [
        [name, *(str(row.get(guess, 0)) for guess in classes)] for name, row in confusion.items()
    ]
    return Grid(["gold \\ predicted", *classes], body, 1)


def _figure(name: str, value: float) -> str:
    return f"{value:g}" if name in COUNTS else percent(value)


def _of(name: str, cell: Cell) -> Detail:
    details = [run.metrics.get("detail", {}).get(cell.column.split, {}) for run in cell.scored]
    for detail in details:
        # Questions with and without an answer stand beside each other, not in a table of theirs.
        kinds = {key: detail[key] for key in ("has_answer", "no_answer") if key in detail}
        detail.setdefault("questions", kinds)
    parts = {part: _means([detail.get(part, {}) for detail in details]) for part in PARTS}
    tables = [detail["confusion"] for detail in details if "confusion" in detail]
    return Detail(
        name,
        len(details),
        {part: rows for part, rows in parts.items() if rows},
        _numbers(details),
        _sum(tables) if tables else None,
    )


def _means(tables: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over runs; a name that a run lacks (a type that it never predicted) counts 0."""
    names = dict.fromkeys(name for table in tables for name in table)
    if not names:
        return {}
    figures = next(table[name] for table in tables for name in table)
    return {
        name: {
            figure: statistics.fmean(table.get(name, {}).get(figure, 0) for table in tables)
            for figure in figures
        }
        for name in names
    }


def _numbers(details: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Fractional numbers alone: the counts stand in the tables' support."""
    names = dict.fromkeys(
        name for detail in details for name, value in detail.items() if isinstance(value, float)
    )
    return {
        name: statistics.fmean(detail[name] for detail in details if name in detail)
        for name in names
    }


def _sum(tables: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for table in tables:
        for gold, cells in table.items():
            row = total.setdefault(gold, {})
            for guess, count in cells.items():
                row[guess] = row.get(guess, 0) + count
    return total
