"""A report as a table for people: scores times 100, times rounded, notes under it."""

from __future__ import annotations

from collections.abc import Callable

from ptv2_cli.report.cells import Cell, Report, RowKey, TableRow, TaskColumn
from ptv2_cli.report.noise import LEVEL
from ptv2_cli.report.text_table import Grid, escaped, markdown_table, memory, percent, seconds

MARKS = {"best": "*", "noise": "~", "worse": "", "untested": "?"}
"""What a cell says beside the best of its column."""


def grid(report: Report, sign: str = "±", *, wide: bool = False) -> Grid:
    """The table.

    Args:
        report: what it shows.
        sign: stands between mean and standard deviation.
        wide: whether it has the column of memory, for which 80 columns have no room.
    """
    names = label_columns(report)
    headings = [name for name, _ in names]
    headings += [
        f"{report.names[column]} {column.metric}".replace(" ", "\n") for column in report.columns
    ]
    headings += ["average"] if report.averages else []
    headings += ["KL\nelsewhere"] if report.texts else []
    headings += ["trainable\n%", "time", *["memory"] * wide]
    rows = []
    for line in report.lines:
        row = [read(line.key) for _, read in names]
        row += [_cell(line.cells.get(c), report, c, sign) for c in report.columns]
        row += [percent(line.average(report.common))] if report.averages else []
        row += [_kl(line.retention)] if report.texts else []
        row += [share(line), seconds(line.seconds(report.common))]
        row += [memory(line.peak_bytes(report.common))] * wide
        rows.append(row)
    below = _beside(report, len(names), len(headings))
    return Grid(headings, [*rows, *below], len(names))


def caption(report: Report, sign: str = "±", *, wide: bool = False) -> list[str]:
    """What the figures and the marks of the same `grid` are, a line each."""
    splits = ", ".join(sorted({column.split for column in report.columns}))
    counts = sorted(report.counts)
    if counts[-1] < 2:
        spread = "one seed each"
    elif len(counts) == 1:
        spread = f"mean {sign} sample sd over {counts[0]} seeds"
    else:
        spread = f"mean {sign} sample sd (seeds)"
    lines = [f"scores times 100 on {splits} at the chosen epoch, {spread}"]
    peak = ", memory: its peak" * wide
    over = f"time: training of one run{peak}"
    if report.common and len(report.common) < len(report.columns):
        names = ", ".join(report.names[column] for column in report.common)
        what = "average and time" if report.averages else "time"
        over = f"{what}: over the tasks that every row has ({names}), training of one run{peak}"
    lines.append(over)
    cells = [cell for column in report.columns for cell in report.cells(column)]
    words = {cell.verdict.word for cell in cells if cell.verdict}
    meanings = {
        "best": f"{MARKS['best']} best of its column",
        "noise": f"{MARKS['noise']} within the noise of the best",
        "untested": f"{MARKS['untested']} not tested",
    }
    marks = [text for word, text in meanings.items() if word in words]
    marks += ["! one answer to all rows"] if any(cell.stuck for cell in cells) else []
    if marks:
        lines.append(", ".join(marks))
    if report.texts:
        lines.append(
            "KL elsewhere: from the bare model's next-token distribution on a text of no task, "
            "nats a token"
        )
    if words & {"noise", "worse"}:
        lines.append(
            f"noise: p >= {LEVEL} over rows or over seeds, Holm-corrected (docs/report.md)"
        )
    return lines


def markdown(report: Report) -> str:
    """The table and its caption as markdown."""
    lines = escaped("; ".join(caption(report, wide=True)))
    return f"{markdown_table(grid(report, wide=True))}\n\n{lines}."


def _beside(report: Report, labels: int, width: int) -> list[list[str]]:
    """What every score stands beside: the majority baseline and the standard error."""
    rows = []
    facts = (("majority baseline", report.majority), ("standard error", report.error))
    for name, figure in facts:
        found = {column: figure(column) for column in report.columns}
        if any(value is not None for value in found.values()):
            figures = [_padded(percent(value), report, column) for column, value in found.items()]
            row = [name, *[""] * (labels - 1), *figures]
            rows.append([*row, *[""] * (width - len(row))])
    return rows


def _padded(text: str, report: Report, column: TaskColumn, marks: str = "") -> str:
    """A figure and its marks, with room for those of the other cells of its column."""
    most = max(len(_mark(cell)) for cell in report.cells(column))
    return f"{text} {marks:{most}}" if most else text


def _mark(cell: Cell) -> str:
    verdict = MARKS[cell.verdict.word] if cell.verdict else ""
    return f"{verdict}{'!' if cell.stuck else ''}"


def label_columns(report: Report) -> list[tuple[str, Callable[[RowKey], str]]]:
    """The columns of names that say something: those whose values are not all the same."""
    keys = [line.key for line in report.lines]
    found: list[tuple[str, Callable[[RowKey], str]]] = []
    if len({key.backbone for key in keys}) > 1:
        found.append(("backbone", lambda key: short_backbone(key.backbone)))
    found.append(("method", lambda key: key.method))
    if any(key.prompt_len for key in keys):
        found.append(("prompt", lambda key: str(key.prompt_len or "-")))
    if any(key.keys for key in keys):
        found.append(("setting", lambda key: key.setting or "-"))
    return found


def short_backbone(name: str) -> str:
    """A hub id or folder by its last word; a packaged one by its package."""
    if name.startswith("package:"):
        return name.removeprefix("package:").split("/")[0]
    return name.rstrip("/").rpartition("/")[2]


def _cell(cell: Cell | None, report: Report, column: TaskColumn, sign: str) -> str:
    if cell is None or cell.mean is None:
        return _padded("-" if cell is None else "diverged", report, column)
    text = percent(cell.mean)
    if cell.sd is not None:
        text += f"{sign}{percent(cell.sd)}"
    if len(report.counts) > 1:
        text += f" ({len(cell.values)})"
    return _padded(text, report, column, _mark(cell))


def _kl(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def share(line: TableRow) -> str:
    """`0.42`, `0.41-0.43`; four places for what would read 0.00."""
    low, high = (
        f"{value:.2f}" if value >= 0.01 else f"{value:.4f}" for value in line.trainable_percent
    )
    return low if low == high else f"{low}-{high}"
