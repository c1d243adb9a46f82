"""Tables of reports on the terminal: their width, and the signs that it can show."""

from __future__ import annotations

import sys

from ptv2_cli.cli import console
from ptv2_cli.report.text_table import Grid, blocks


def show_grid(table: Grid) -> None:
    """A grid at most as wide as the terminal: columns that do not fit are printed below."""
    for number, block in enumerate(blocks(table, console.width())):
        if number:
            console.say()
        console.table("", block.headings, block.rows, right_from=block.labels)


def plus_minus() -> str:
    """The sign if standard output can encode it."""
    return "±" if encodable("±") else "+-"


def encodable(text: str) -> bool:
    """Whether standard output can encode the text."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
