"""A report as a LaTeX table with the rules of booktabs, ready to be included by a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ptv2_cli.report.baseline import Baseline
from ptv2_cli.report.baseline_table import rows_caption, rows_grid
from ptv2_cli.report.cells import Cell, Report, TableRow, TaskColumn
from ptv2_cli.report.noise import LEVEL
from ptv2_cli.report.table import label_columns, share
from ptv2_cli.report.text_table import Grid, percent

HEADER = "% needs \\usepackage{booktabs} in the preamble"
NONE = "--"
"""A cell without a figure."""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # The first encoding of TeX's fonts has other characters in these places.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # Behind \\ these would be read as its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "†": r"\textsuperscript{\textdagger}",
    "‡": r"\textsuperscript{\textdaggerdbl}",
    "…": r"\dots{}",
}
_RANKS = {1: "textbf", 2: "underline"}


@dataclass(frozen=True)
class Tabular:
    """The parts of a `tabular`; every cell is LaTeX already."""

    headings: Sequence[Sequence[str]]
    """One or more lines."""
    blocks: Sequence[Sequence[Sequence[str]]]
    """Rows, with a rule between two blocks."""
    labels: int
    """How many of the first columns are names; figures stand at the right of theirs."""


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands, on one line and without control characters."""
    words = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())
    return "".join(_SPECIAL.get(char, char) for char in words)


def latex(report: Report, baseline: Baseline | None = None) -> str:
    """The report as a `table` environment, and the tests over all settings as another one.

    The best mean of a column is bold and the second underlined, as far as its printed digits
    tell them apart.
    """
    tables = [floating(_tabular(report, baseline), _caption(report, baseline), "tab:ptv2")]
    if baseline is not None and baseline.rows:
        caption = f"All tasks and backbones together, against {escaped(baseline.name)}; "
        caption += "; ".join(map(escaped, rows_caption(baseline))) + "."
        tables.append(floating(of_grid(rows_grid(baseline, report)), caption, "tab:ptv2-settings"))
    return "\n\n".join([HEADER, *tables])


def floating(table: Tabular, caption: str, label: str) -> str:
    """A `table` environment.

    Args:
        table: its rows.
        caption: LaTeX.
        label: for `\\ref`.
    """
    width = max(len(row) for row in (*table.headings, *(r for b in table.blocks for r in b)))
    lines = [
        "\\begin{table}[t]",
        "\\centering",
        f"\\caption{{{caption}}}",
        f"\\label{{{label}}}",
        f"\\begin{{tabular}}{{{'l' * table.labels}{'r' * (width - table.labels)}}}",
        "\\toprule",
        *(_row(cells) for cells in table.headings),
    ]
    for block in table.blocks:
        lines += ["\\midrule", *(_row(cells) for cells in block)]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"])


def of_grid(grid: Grid) -> Tabular:
    """A table of text as one of LaTeX; parts of a heading stand below each other."""
    parts = [heading.split("\n") for heading in grid.headings]
    height = max(map(len, parts))
    headings = [
        [escaped(part[line]) if line < len(part) else "" for part in parts]
        for line in range(height)
    ]
    rows = [[figure(cell) for cell in row] for row in grid.rows]
    return Tabular(headings, [rows], grid.labels)


def figure(text: str) -> str:
    """A cell of text; a minus in front of a figure is a minus and no hyphen."""
    made = NONE if text == "-" else escaped(text)
    return f"$-${made[1:]}" if re.match(r"-[\d.]", made) else made


def ranks(values: Sequence[float | None], *, lower: bool = False) -> list[int | None]:
    """1 for the best of `values`, 2 for the second, as they print with one digit; else None."""
    shown = [None if value is None else percent(value) for value in values]
    distinct = sorted({float(text) for text in shown if text is not None}, reverse=not lower)
    places = {value: rank for rank, value in enumerate(distinct[:2], 1)}
    return [None if text is None else places.get(float(text)) for text in shown]


def ranked(text: str, rank: int | None) -> str:
    """The LaTeX `text`, bold for rank 1 and underlined for rank 2."""
    return f"\\{_RANKS[rank]}{{{text}}}" if rank in _RANKS else text


def _tabular(report: Report, baseline: Baseline | None) -> Tabular:
    names = label_columns(report)
    first = [escaped(name) for name, _ in names]
    second = [""] * len(names)
    columns: list[list[str]] = []
    for column in report.columns:
        first.append(escaped(report.names[column]))
        second.append(escaped(column.metric))
        columns.append(_scores(report, column, baseline))
    if report.averages:
        first.append("average")
        averages = [line.average(report.common) for line in report.lines]
        pairs = zip(averages, ranks(averages), strict=True)
        columns.append([ranked(percent(value), rank) for value, rank in pairs])
    if report.texts:
        first.append("KL elsewhere")
        kls = [line.retention for line in report.lines]
        columns.append([NONE if value is None else f"{value:.3f}" for value in kls])
    first.append("trainable")
    columns.append([share(line).replace("-", "--") for line in report.lines])
    second += [""] * (len(first) - len(second) - 1) + [r"\%"]
    rows = [
        [*(escaped(read(line.key)) for _, read in names), *cells]
        for line, cells in zip(report.lines, zip(*columns, strict=True), strict=True)
    ]
    blocks = [*_by_backbone(report.lines, rows), *_beside(report, len(names), len(first))]
    return Tabular([first, second], blocks, len(names))


def _scores(report: Report, column: TaskColumn, baseline: Baseline | None) -> list[str]:
    """The cells of a column, from the top."""
    cells = [line.cells.get(column) for line in report.lines]
    means = [cell.mean if cell else None for cell in cells]
    lower = any(cell.lower_is_better for cell in cells if cell)
    places = ranks(means, lower=lower) if len(report.cells(column)) > 1 else [None] * len(cells)
    several = len(report.counts) > 1
    return [
        _score(cell, place, several, baseline.mark(line, column) if baseline else "")
        for line, cell, place in zip(report.lines, cells, places, strict=True)
    ]


def _score(cell: Cell | None, rank: int | None, several: bool, mark: str) -> str:
    if cell is None or cell.mean is None:
        return NONE if cell is None else "diverged"
    text = ranked(percent(cell.mean), rank) + escaped(mark)
    if cell.sd is not None:
        text += f"\\,{{\\scriptsize$\\pm${percent(cell.sd)}}}"
    return f"{text} ({len(cell.values)})" if several else text


def _by_backbone(lines: Sequence[TableRow], rows: list[list[str]]) -> list[list[list[str]]]:
    """The rows, those of one backbone together."""
    blocks: dict[str, list[list[str]]] = {}
    for line, row in zip(lines, rows, strict=True):
        blocks.setdefault(line.key.backbone, []).append(row)
    return list(blocks.values())


def _beside(report: Report, labels: int, width: int) -> list[list[list[str]]]:
    """The majority baseline and the standard error, as a block; none where neither is known."""
    rows = []
    for name, value in (("majority baseline", report.majority), ("standard error", report.error)):
        found = [value(column) for column in report.columns]
        if any(one is not None for one in found):
            row = [
                name,
                *[""] * (labels - 1),
                *(NONE if one is None else percent(one) for one in found),
            ]
            rows.append([*row, *[""] * (width - len(row))])
    return [rows] if rows else []


def _caption(report: Report, baseline: Baseline | None) -> str:
    splits = ", ".join(sorted({column.split for column in report.columns}))
    counts = sorted(report.counts)
    spread = "one seed each"
    if counts[-1] > 1:
        over = f" over {counts[0]} seeds" if len(counts) == 1 else " (number of seeds)"
        spread = f"mean $\\pm$ sample standard deviation{over}"
    text = f"Scores times 100 on {escaped(splits)} at the chosen epoch, {spread}."
    if any(len(report.cells(column)) > 1 for column in report.columns):
        text += " Bold: best of its column; underlined: second."
    if baseline is not None:
        text += (
            f" \\textdagger{{}} better and \\textdaggerdbl{{}} worse than "
            f"{escaped(baseline.name)} ($p < {LEVEL}$ over rows and over seeds, "
            "Holm-corrected for all comparisons of the table)."
        )
    if 0 < len(report.common) < len(report.columns) and report.averages:
        names = ", ".join(report.names[column] for column in report.common)
        text += f" Average over the tasks that every row has: {escaped(names)}."
    return text


def _row(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
