"""Long lines of a terminal broken between words; what is to be typed or copied stays whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

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
