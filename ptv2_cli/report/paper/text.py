"""The paper's tables as text, markdown, csv, plain data and LaTeX; published scores say so."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from ptv2_cli.report.latex import HEADER, NONE, Tabular, escaped, floating, ranked, ranks
from ptv2_cli.report.paper.published import published
from ptv2_cli.report.paper.tables import HERE, PaperCell, PaperRow, PaperTable
from ptv2_cli.report.text_table import Grid, markdown_table, percent
from ptv2_cli.report.text_table import escaped as escaped_markdown
from ptv2_cli.safe_text import guarded_cell

LABELS = ("backbone", "method", "scores")


def grid(table: PaperTable, sign: str = "±") -> Grid:
    """A table of the paper; `sign` stands between mean and standard deviation."""
    headings = [*LABELS, *(column.name.replace(" ", "\n") for column in table.columns)]
    rows = [[*_labels(row), *(_text(cell, sign) for cell in row.cells)] for row in table.rows]
    return Grid(headings, rows, len(LABELS))


def title(table: PaperTable) -> str:
    """`Table 2 of arXiv 2110.07602: SuperGLUE`."""
    number = table.name.rpartition("-")[2]
    return f"Table {number} of arXiv 2110.07602: {table.title}"


def caption(table: PaperTable, sign: str = "±") -> list[str]:
    """What the figures are and where they come from, a line each."""
    spread = any(cell and cell.sd is not None for row in table.rows for cell in row.cells)
    over = f", mean {sign} sample sd over seeds" if spread else ""
    lines = [
        f"scores times 100; metrics: {_metrics(table)}",
        f"{HERE}: these runs at the chosen epoch, the best setting by the split that chose the "
        f"epoch{over}",
    ]
    used = {row.source for row in table.rows}
    lines += [
        f"published ({name}): {text}" for name, text in published().sources.items() if name in used
    ]
    known = {row.backbone for row in table.rows if row.source != HERE}
    missing = [name for name in published().parameters if name not in known]
    if missing:
        lines.append(f"published scores of {' and '.join(missing)} are not known here")
    return [*lines, *table.notes]


def markdown(table: PaperTable) -> str:
    """The table, its title and its caption as markdown."""
    lines = escaped_markdown("; ".join(caption(table)))
    return f"### {escaped_markdown(title(table))}\n\n{markdown_table(grid(table))}\n\n{lines}."


def csv_text(tables: Sequence[PaperTable]) -> str:
    """A line for each score: fractions, empty `sd` and `seeds` for published ones."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", *LABELS, "column", "metric", "split", "mean", "sd", "seeds"])
    for table in tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell is not None:
                    where = [table.name, *_labels(row), column.name, column.metric, column.split]
                    figures = [cell.mean, cell.sd, len(cell.runs) or None]
                    writer.writerow(map(guarded_cell, [*where, *figures]))
    return out.getvalue()


def content(tables: Sequence[PaperTable]) -> dict[str, Any]:
    """The tables as plain data, with the runs behind each cell."""
    return {
        "sources": published().sources,
        "tables": [
            {
                "name": table.name,
                "title": title(table),
                "columns": [column._asdict() for column in table.columns],
                "rows": [_plain(row) for row in table.rows],
                "notes": list(table.notes),
            }
            for table in tables
        ],
    }


def latex(tables: Sequence[PaperTable]) -> str:
    """The tables in LaTeX: published scores are italic.

    Bold and underlined: the best and the second of the scores of one backbone that have one
    source.
    """
    return "\n\n".join([HEADER, *map(_floating, tables)])


def _floating(table: PaperTable) -> str:
    parts = [column.name.split(" ") for column in table.columns]
    height = max(map(len, parts))
    headings = [
        [*(LABELS if line == 0 else [""] * len(LABELS))]
        + [escaped(part[line]) if line < len(part) else "" for part in parts]
        for line in range(height)
    ]
    blocks: dict[str, list[list[str]]] = {}
    for row in table.rows:
        marks = _ranks(table, row)
        cells = [_latex_cell(row, cell, mark) for cell, mark in zip(row.cells, marks, strict=True)]
        labels = [escaped(text) for text in _labels(row)]
        blocks.setdefault(row.backbone, []).append([*labels, *cells])
    lines = [title(table), *caption(table)]
    text = ". ".join(escaped(line[:1].upper() + line[1:]) for line in lines)
    text += ". Italic: published. Bold, underlined: best and second of one backbone and source."
    name = f"tab:ptv2-{table.name}"
    return floating(Tabular(headings, list(blocks.values()), len(LABELS)), text, name)


def _ranks(table: PaperTable, row: PaperRow) -> list[int | None]:
    """For each cell of the row its rank among the methods of its backbone and source."""
    rivals = [r for r in table.rows if (r.backbone, r.source) == (row.backbone, row.source)]
    found: list[int | None] = []
    for at in range(len(table.columns)):
        cells = [rival.cells[at] for rival in rivals]
        means = [None if cell is None else cell.mean for cell in cells]
        several = sum(mean is not None for mean in means) > 1
        found.append(ranks(means)[rivals.index(row)] if several else None)
    return found


def _latex_cell(row: PaperRow, cell: PaperCell | None, rank: int | None) -> str:
    if cell is None:
        return NONE
    text = ranked(percent(cell.mean), rank)
    if row.source != HERE:
        return f"\\textit{{{text}}}"
    return text if cell.sd is None else f"{text}\\,{{\\scriptsize$\\pm${percent(cell.sd)}}}"


def _labels(row: PaperRow) -> list[str]:
    source = HERE if row.source == HERE else f"published ({row.source})"
    return [row.backbone, row.method, source]


def _text(cell: PaperCell | None, sign: str) -> str:
    if cell is None:
        return "-"
    spread = "" if cell.sd is None else f"{sign}{percent(cell.sd)}"
    return f"{percent(cell.mean)}{spread}"


def _metrics(table: PaperTable) -> str:
    """`accuracy (BoolQ, CB), f1 (ReCoRD)`."""
    groups: dict[str, list[str]] = {}
    for column in table.columns:
        groups.setdefault(f"{column.metric} on {column.split}", []).append(column.name)
    return ", ".join(f"{metric} ({', '.join(names)})" for metric, names in groups.items())


def _plain(row: PaperRow) -> dict[str, Any]:
    return {
        "backbone": row.backbone,
        "method": row.method,
        "published": row.source != HERE,
        "source": row.source,
        "cells": [
            None
            if cell is None
            else {
                "mean": cell.mean,
                "sd": cell.sd,
                "runs": [str(run.directory.path) for run in cell.runs],
            }
            for cell in row.cells
        ],
    }
