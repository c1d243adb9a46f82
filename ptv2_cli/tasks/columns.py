"""CoNLL columns: a word per line, its tag in another column, a blank line after a sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.decoding import Text
from ptv2_cli.tasks.formats import Line, Record, short, tried

Place = int | str
"""A column by its index (from 0, or from -1 backwards) or by its name in the first line."""


def read_columns(text: Text, token: Place = 0, tag: Place = -1) -> Iterator[Record]:
    """Sentences of a file; the columns of their words and tags are the first and the last.

    Columns are parted by tabs, or by spaces in lines without a tab. -DOCSTART- lines are
    skipped, and the comments of CoNLL-U, see `without_comments`. Columns given by name are
    looked for in the first line that is not blank, which may begin with `#`, and with
    `global.columns =` as CoNLL-U Plus has it. Values are `tokens` and `tags`. A sentence with a
    line that lacks a column is bad.

    Raises:
        DataError: a file that does not name the columns.
    """
    lines = enumerate(chain(text, [""]), start=1)
    places = _places(lines, text, token, tag)
    sentence: list[tuple[int, str]] = []
    for number, line in without_comments(lines):
        if split_columns(line):
            sentence.append((number, line))
        elif sentence:
            yield _sentence(sentence, text, places)
            sentence = []


def _sentence(lines: list[tuple[int, str]], text: Text, places: tuple[int, int]) -> Record:
    def make() -> Line:
        pairs = [_pair(line, f"{text.path}:{number}", text, places) for number, line in lines]
        tokens, tags = map(list, zip(*pairs, strict=True))
        numbers = [number for number, _ in lines]
        return Line({"tokens": tokens, "tags": tags}, text.path, numbers[0], numbers)

    return tried(make, lines[0][0], [line.rstrip("\r\n") for _, line in lines])


def _pair(line: str, where: str, text: Text, places: tuple[int, int]) -> tuple[str, str]:
    text.check(line, where)
    return pick_columns(where, split_columns(line), places)


def _places(
    lines: Iterator[tuple[int, str]], text: Text, token: Place, tag: Place
) -> tuple[int, int]:
    """The indices of the columns; of named ones the first line that is not blank is read."""
    if isinstance(token, int) and isinstance(tag, int):
        return token, tag
    for number, line in lines:
        if split_columns(line):
            text.check(line, f"{text.path}:{number}")
            return named_columns(f"{text.path}:{number}", line, (token, tag))
    return 0, -1


def without_comments(
    lines: Iterable[tuple[int, str]], inside: bool = False
) -> Iterator[tuple[int, str]]:
    """Numbered lines without CoNLL-U's comments: those before a sentence that begin with `# `.

    The word `#` is no comment. It has the columns of the sentence's next line, or of the sentence
    before; where neither is there, a tag behind it. `inside`: the lines begin within a sentence.
    """
    waiting: list[tuple[int, str]] = []
    shape: tuple[bool, int] | None = None
    for number, text in lines:
        columns = split_columns(text)
        if not inside and columns and (columns[0] == "#" or columns[0].startswith("# ")):
            waiting.append((number, text))
            continue
        shape = _shape(text, columns) if columns else shape
        yield from (line for line in waiting if _is_word(line[1], shape))
        waiting = []
        inside = bool(columns)
        yield number, text
    yield from (line for line in waiting if _is_word(line[1], shape))


def _is_word(text: str, shape: tuple[bool, int] | None) -> bool:
    """Whether a line that begins with `#` is a word's, in a file whose lines have this shape."""
    columns = split_columns(text)
    return _shape(text, columns) == shape or (
        len(columns) == 2 and re.fullmatch(r"O|[A-Z]-\S+", columns[1]) is not None
    )


def _shape(text: str, columns: Sequence[str]) -> tuple[bool, int]:
    """Whether tabs part a line, and into how many columns."""
    return "\t" in text, len(columns)


def split_columns(text: str) -> list[str]:
    """The columns of a line of CoNLL; none of a blank one and of -DOCSTART-."""
    line = text.strip("\r\n \t")
    if not line or line.startswith("-DOCSTART-"):
        return []
    return [part.strip() for part in re.split(r"\t+" if "\t" in line else r" +", line)]


def unknown_column(where: str, name: str, present: Iterable[str]) -> DataError:
    """The error of a column that a file does not have."""
    known = [column for column in present if column]
    spelled = {column.casefold(): column for column in known}
    near = difflib.get_close_matches(name.casefold(), spelled, n=1)
    guess = f"did you mean {spelled[near[0]]!r}? " if near else ""
    return DataError.at(
        where, f"no column {name!r}", f"{guess}columns here: {', '.join(known) or 'none'}"
    )


def named_columns(where: str, line: str, wanted: Sequence[Place]) -> tuple[int, int]:
    """The indices of columns that the first line names.

    Raises:
        DataError: it does not name one of them.
    """
    header = split_columns(re.sub(r"^#\s*(global\.columns\s*=\s*)?", "", line))
    missing = next((name for name in wanted if isinstance(name, str) and name not in header), None)
    if missing is not None:
        raise unknown_column(where, missing, header)
    first, second = (header.index(at) if isinstance(at, str) else at for at in wanted)
    return first, second


def pick_columns(where: str, parts: list[str], places: tuple[int, int]) -> tuple[str, str]:
    """Two of a line's columns.

    Raises:
        DataError: the line has one column, or not these.
    """
    if len(parts) < 2:
        raise DataError.at(
            where,
            f"one column: {short(parts[0])}",
            "a line is WORD TAG (further columns between them are skipped)",
        )
    try:
        return parts[places[0]], parts[places[1]]
    except IndexError:
        far = next(at for at in places if not -len(parts) <= at < len(parts))
        raise DataError.at(
            where,
            f"no column {far}: {short(' '.join(parts))} has {len(parts)}",
            "columns count from 0, or from -1 backwards: task.token_column, task.tag_column",
        ) from None
