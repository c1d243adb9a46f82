"""The only file that prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from ptv2_cli.cli.wrapping import wrapped
from ptv2_cli.errors import Problem

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str = "", hang: int = 2) -> None:
    """A line of result; where a terminal breaks it, its further lines stand in by `hang`."""
    _show(out, Text(text), hang=hang)


def raw(text: str) -> None:
    """Lines of result exactly as they are, whatever stands in them."""
    sys.stdout.write(f"{text}\n")


def width() -> int:
    """Columns of the terminal."""
    return out.width


def lines(texts: Iterable[str]) -> None:
    """Lines of result as they are, for programs: UTF-8 wherever, none cut in two."""
    data = "".join(f"{text}\n" for text in texts)
    sys.stdout.flush()
    sys.stdout.buffer.write(data.encode())
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """A line about what goes on."""
    _show(err, Text(text), "dim" if err.is_terminal else None)


def warn(text: str) -> None:
    """A line that begins with `warning:`."""
    _show(err, Text.assemble(("warning:", "yellow"), f" {text}"))


def problems(found: Iterable[Problem]) -> None:
    """Every problem: where, what, and the hint below it."""
    for problem in found:
        where = Text.assemble((problem.where, "bold"), ": ") if problem.where else Text()
        _show(err, Text.assemble(("error:", "red"), " ", where, problem.what))
        if problem.hint:
            _show(err, Text(f"  -> {problem.hint}"))


def _show(console: Console, text: Text, style: StyleType | None = None, hang: int = 2) -> None:
    """Print lines, broken between words for somebody who reads them; a file gets them whole."""
    for line in wrapped(text, console.width, hang) if console.file.isatty() else [text]:
        console.print(line, style=style)


def show_traceback() -> None:
    """The traceback of the exception under way."""
    err.print(traceback.format_exc(), markup=False)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    right_from: int | None = None,
) -> None:
    """A table that fits the terminal; cells wrap, the first column does not.

    Columns from the `right_from`-th on hold figures: they stand right.
    """
    drawn = Table(
        title=title or None,
        title_justify="left",
        box=None,
        pad_edge=False,
        show_header=any(columns),
    )
    for index, column in enumerate(columns):
        right = right_from is not None and index >= right_from
        drawn.add_column(
            column, no_wrap=index == 0, overflow="fold", justify="right" if right else "left"
        )
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    # Tables are laid out to the width of the terminal, so they must not be left to soft wrapping.
    Console(highlight=False).print(drawn)


def as_json(content: Mapping[str, Any]) -> None:
    """JSON for programs."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def can_ask() -> bool:
    """Whether somebody sits there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, default: str = "") -> str:
    """What was typed, or the default for Enter alone; the end of input is an interruption."""
    shown = f" [{default}]" if default else ""
    err.print(f"{question}{shown}: ", markup=False, end="")
    try:
        return input().strip() or default
    except EOFError:
        raise KeyboardInterrupt from None
