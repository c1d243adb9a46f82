"""The only file that prints: results on standard output, everything else on standard error.

What is printed may hold text of data, files and arguments. It is shown as it is: never read as
markup or as the name of a picture, its control characters spelled out.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from ptv2_cli.errors import Problem
from ptv2_cli.safe_text import visible

out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
_UNBROKEN = 100_000
"""Columns of output that nobody's terminal breaks."""


def open_streams() -> None:
    """See to it that every standard stream is there, and that output can say every letter.

    A stream that was closed reads as empty, or takes what is written to it. A letter that the
    output's encoding lacks is spelled out: `\\u4e2d`.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def in_terminal(console: Console) -> bool:
    """Whether somebody reads what is printed there, and no program or file."""
    return console.file.isatty()


def plain(text: str, keep: str = "") -> Text:
    """The text as it is shown anywhere in a terminal: see `visible`."""
    return Text(visible(text, keep))


def say(text: str = "", hang: int = 2) -> None:
    """A line of result; where a terminal breaks it, its further lines stand in by `hang`."""
    _show(out, plain(text), hang=hang)


def width() -> int:
    """Columns that a line of result may have: of the terminal; in a pipe or a file any number."""
    return out.width if in_terminal(out) else _UNBROKEN


def lines(texts: Iterable[str]) -> None:
    """Lines of result for programs: UTF-8 wherever, none cut in two.

    They are exact in a pipe and in a file; in a terminal, which obeys control characters, those
    are spelled out as JSON spells them.
    """
    data = "".join(f"{text}\n" for text in texts)
    if in_terminal(out):
        data = visible(data, keep="\n\t")
    sys.stdout.flush()
    sys.stdout.buffer.write(data.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """A line about what goes on."""
    _show(err, plain(text), "dim" if err.is_terminal else None)


def warn(text: str, hint: str = "") -> None:
    """A line that begins with `warning:`, and what to do about it below."""
    _show(err, Text.assemble(("warning:", "yellow"), " ", plain(text)))
    _hint(hint)


def problems(found: Iterable[Problem]) -> None:
    """Every problem: where, what, and the hint below it."""
    for problem in found:
        where = Text.assemble((visible(problem.where), "bold"), ": ") if problem.where else Text()
        _show(err, Text.assemble(("error:", "red"), " ", where, plain(problem.what)))
        _hint(problem.hint)


def _hint(text: str) -> None:
    if text:
        _show(err, Text.assemble("  -> ", plain(text)))


def _show(console: Console, text: Text, style: StyleType | None = None, hang: int = 2) -> None:
    """Print a line, broken between words for somebody who reads it; a file gets it whole."""
    for line in wrapped(text, console.width, hang) if in_terminal(console) else [text]:
        console.print(line, style=style)


def show_traceback() -> None:
    """The traceback of the exception under way."""
    err.print(plain(traceback.format_exc(), keep="\n"))


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    right_from: int | None = None,
) -> None:
    """A table that fits the terminal; cells wrap, the first column does not.

    In a pipe or a file no cell wraps and no line ends in spaces.

    Args:
        title: stands above it.
        columns: headings, of one line or several.
        rows: cells of one line each.
        right_from: columns from this one on hold figures: they stand right.
    """
    drawn = Table(
        title=plain(title) if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        show_header=any(columns),
    )
    for index, column in enumerate(columns):
        right = right_from is not None and index >= right_from
        drawn.add_column(
            plain(column, keep="\n"),
            no_wrap=index == 0,
            overflow="fold",
            justify="right" if right else "left",
        )
    for row in rows:
        drawn.add_row(*map(plain, row))
    if in_terminal(out):
        # Laid out to the width of the terminal, so it must not be left to soft wrapping.
        Console(highlight=False).print(drawn)
        return
    text = StringIO()
    Console(file=text, width=_UNBROKEN, highlight=False).print(drawn)
    for line in text.getvalue().splitlines():
        out.print(Text(line.rstrip()))


def as_json(content: Mapping[str, Any]) -> None:
    """JSON for programs."""
    lines([json.dumps(content, indent=2, ensure_ascii=False)])


def can_ask() -> bool:
    """Whether somebody sits there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, default: str = "") -> str:
    """What was typed, or the default for Enter alone; the end of input is an interruption."""
    shown = f" [{default}]" if default else ""
    err.print(plain(f"{question}{shown}: ", keep="\n"), end="")
    try:
        return input().strip() or default
    except EOFError:
        raise KeyboardInterrupt from None


_LEADING = re.compile(r" *(-> )?")
_WHOLE = re.compile(
    r"python3 .+"
    r"|\b(ptv2 [a-z]|pip install |hf |mkdir |rm |cp )((?!, or |; |, then ).)*"
    r"|--[a-z-]+ \S+"
)
"""A command, to its end or to the next clause; a flag with its value."""
_JOINED = "\ue000"
"""Stands for a space that is no place to break: of a private block, so that no text has it."""


def wrapped(text: Text, width: int, hang: int = 2) -> Iterator[Text]:
    """The lines of a text, each at most `width` columns where words and commands allow it.

    Args:
        text: one line or several, styled.
        width: columns of the terminal.
        hang: columns by which further lines of a line stand in; one that begins with spaces or
            `-> ` has them under its first word.
    """
    for line in text.split("\n", allow_blank=True):
        if line.cell_len <= width:
            yield line
            continue
        found = _LEADING.match(line.plain)
        lead = len(found[0]) if found else 0
        yield from _broken(line, width, lead, lead or hang)


def _broken(line: Text, width: int, lead: int, hang: int) -> Iterator[Text]:
    start, rest = line[:lead], line[lead:]
    for part in rest.divide(_breaks(rest.plain, width - max(lead, hang))):
        part.rstrip()
        yield Text.assemble(start, part)
        start = Text(" " * hang)


def _breaks(text: str, width: int) -> Iterator[int]:
    """Where lines of at most `width` columns begin.

    A piece that is wider is left to the terminal, from which it can be copied as it is: a
    command begins a line of its own, a path stays behind what it is the value of.
    """
    kept = _WHOLE.sub(lambda found: found[0].replace(" ", _JOINED), text)
    begun = 0
    for piece in re.finditer(r"\S+", kept):
        fits = cell_len(piece[0]) <= width or _JOINED in piece[0]
        if fits and piece.start() > begun and cell_len(text[begun : piece.end()]) > width:
            begun = piece.start()
            yield begun
