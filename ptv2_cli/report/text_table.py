"""Tables of text: headings and rows, cut to a width or written as markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ptv2_cli.memory import in_words

GAP = 2
"""Columns of the terminal between two columns of a table."""


@dataclass(frozen=True)
class Grid:
    """Headings (of one or several lines) and rows of text."""

    headings: list[str]
    rows: list[list[str]]
    labels: int
    """How many of the first columns are names; the others are figures."""


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction times 100; `-` for none."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def p_value(p: float) -> str:
    """`0.034`; `< 0.001` for what three places cannot say."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(value: float | None) -> str:
    """`45 s`, `3.4 min`, `2.1 h`; `-` for none."""
    if value is None:
        return "-"
    if value < 100:
        return f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def memory(size: int | None) -> str:
    """`1.7 GiB`, `640 MiB`; `-` for none."""
    return "-" if size is None else in_words(size)


def blocks(table: Grid, width: int) -> list[Grid]:
    """The grid as several that are each at most `width` wide, every one with the names."""
    widths = [
        max(len(part) for text in column for part in text.split("\n"))
        for column in zip(table.headings, *table.rows, strict=True)
    ]
    base = sum(widths[: table.labels]) + GAP * table.labels
    parts: list[list[int]] = [[]]
    taken = base
    for at in range(table.labels, len(widths)):
        if parts[-1] and taken + widths[at] > width:
            parts.append([])
            taken = base
        parts[-1].append(at)
        taken += widths[at] + GAP
    first = list(range(table.labels))
    return [_only(table, [*first, *part]) for part in parts]


def markdown_table(table: Grid) -> str:
    """A table of GitHub's markdown; names stand left, figures right."""
    headings = [escaped(heading) for heading in table.headings]
    rule = ["---" if at < table.labels else "---:" for at in range(len(headings))]
    lines = [headings, rule, *([escaped(cell) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _only(table: Grid, places: Sequence[int]) -> Grid:
    """Some columns; without rows that say nothing in any of them."""
    rows = [[row[at] for at in places] for row in table.rows]
    kept = [row for row in rows if any(row[table.labels :])]
    return Grid([table.headings[at] for at in places], kept, table.labels)


def escaped(text: str) -> str:
    """Text that markdown shows as it stands: on one line, with no markup and no HTML.

    An underscore within a word means nothing to markdown and stays: `ptuning_v2`.
    """
    text = re.sub(r"([\\`*\[\]|~])|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return " ".join(text.split())
