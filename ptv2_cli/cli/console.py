"""The only file that prints: results on standard output, everything else on standard error.

Text from data, files and arguments is printed as it is: never as markup or emoji codes, and with
its control characters escaped.
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
"""Columns of output that is not broken into lines."""


def open_streams() -> None:
    """Make sure that every standard stream exists, and that output can hold every character.

    A closed input reads as empty; a closed output discards what is written to it. A character that
    the encoding of the output lacks is escaped: `\\u4e2d`.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


_head = ""
"""Begins every problem: which of several processes has it."""


def mute(head: str) -> None:
    """Discard all that this process prints until `unmute`; `head` then begins its problems."""
    global _head
    _head = f"{head}: "
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def unmute() -> None:
    """Print again."""
    if _head:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def in_terminal(console: Console) -> bool:
    """Whether the output goes to a terminal, not to a program or a file."""
    return console.file.isatty()


def plain(text: str, keep: str = "") -> Text:
    """The text with its control characters escaped, see `visible`."""
    return Text(visible(text, keep))


def say(text: str = "", hang: int = 2) -> None:
    """Print a line of a result; if a terminal breaks it, its next lines are indented by `hang`."""
    _show(out, plain(text), hang=hang)


def width() -> int:
    """Columns of a line of a result: those of the terminal; unlimited in a pipe or a file."""
    return out.width if in_terminal(out) else _UNBROKEN


def lines(texts: Iterable[str]) -> None:
    """Print lines for programs: always UTF-8, never broken.

    They are exact in a pipe and in a file. A terminal gets control characters escaped as in JSON.
    """
    part("".join(f"{text}\n" for text in texts))


def part(text: str) -> None:
    """Print a part of a text for people and programs at once, as `lines` does; no line ends."""
    if in_terminal(out):
        text = visible(text, keep="\n\t")
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """Print a line about the progress of the command."""
    _show(err, plain(text), "dim" if err.is_terminal else None)


def warn(text: str, hint: str = "") -> None:
    """Print a line that begins with `warning:`, and below it what to do."""
    _show(err, Text.assemble(("warning:", "yellow"), " ", plain(text)))
    _hint(hint)


def problems(found: Iterable[Problem]) -> None:
    """Print every problem: where, what, and the hint below it."""
    for problem in found:
        where = Text.assemble((visible(problem.where), "bold"), ": ") if problem.where else Text()
        where = Text.assemble(_head, where)
        _show(err, Text.assemble(("error:", "red"), " ", where, plain(problem.what)))
        _hint(problem.hint)


def _hint(text: str) -> None:
    if text:
        _show(err, Text.assemble("  -> ", plain(text)))


def _show(console: Console, text: Text, style: StyleType | None = None, hang: int = 2) -> None:
    """Print a line, broken between words in a terminal and whole in a file."""
    for line in wrapped(text, console.width, hang) if in_terminal(console) else [text]:
        console.print(line, style=style)


def show_traceback() -> None:
    """Print the traceback of the current exception."""
    err.print(plain(traceback.format_exc(), keep="\n"))


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    right_from: int | None = None,
) -> None:
    """Print a table that fits the terminal; all columns wrap except the first.

    In a pipe or a file no cell wraps and no line ends in spaces.

    Args:
        title: printed above the table.
        columns: headings of one or more lines.
        rows: cells of one line each.
        right_from: the first column of numbers; it and all after it are aligned to the right.
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
        # Laid out to the width of the terminal: soft wrapping would break it.
        Console(highlight=False).print(drawn)
        return
    text = StringIO()
    Console(file=text, width=_UNBROKEN, highlight=False).print(drawn)
    for line in text.getvalue().splitlines():
        out.print(Text(line.rstrip()))


def as_json(content: Mapping[str, Any]) -> None:
    """Print JSON for programs."""
    lines([json.dumps(content, indent=2, ensure_ascii=False)])


def can_ask() -> bool:
    """Whether the command can ask the user questions."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, default: str = "") -> str:
    """The user's answer, or the default for an empty one; the end of input is an interruption."""
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
"""A command up to its end or the next clause; a flag with its value."""
_JOINED = "\ue000"
"""Stands for a space where a line must not break; a private character that no text has."""


def wrapped(text: Text, width: int, hang: int = 2) -> Iterator[Text]:
    """The lines of a text, each at most `width` columns where words and commands allow it.

    Args:
        text: one line or several, styled.
        width: columns of the terminal.
        hang: columns by which the next lines are indented; if a line begins with spaces or `-> `,
            they begin under its first word.
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

    A wider piece is left to the terminal to break, so that it can be copied whole: a command begins
    a new line, a path stays on the line of the word before it.
    """
    kept = _WHOLE.sub(lambda found: found[0].replace(" ", _JOINED), text)
    begun = 0
    for piece in re.finditer(r"\S+", kept):
        fits = cell_len(piece[0]) <= width or _JOINED in piece[0]
        if fits and piece.start() > begun and cell_len(text[begun : piece.end()]) > width:
            begun = piece.start()
            yield begun
