"""New rows from a stream of bytes, one at a time; a bad row does not end the reading.

Nothing is read ahead, so that rows of any number need the memory of one. SQuAD's json is one
value and is the exception.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.base import Kind
from ptv2_cli.tasks.columns import (
    Place,
    named_columns,
    pick_columns,
    split_columns,
    without_comments,
)
from ptv2_cli.tasks.decoding import check_unicode
from ptv2_cli.tasks.formats import Line, json_object, squad_lines
from ptv2_cli.tasks.sentences import WORD_2012, is_conll2012, is_document
from ptv2_cli.tasks.tables import DELIMITERS, table_rows

T = TypeVar("T")
TABLES = ("jsonl", "csv", "tsv")
_OWN: dict[str, str] = {"token": "conll", "span": "squad"}
"""The format that only tasks of this kind have."""


@dataclass(frozen=True)
class Bad:
    """A row that cannot be used."""

    number: int | None
    """Its (first) line, from 1; None where rows have no line."""
    error: DataError
    row: Any = None
    """What was read of it: its values, or its text where that is no row at all."""


Record = Line | Bad


def formats_of(kind: Kind) -> tuple[str, ...]:
    """Formats in which new rows of a task may come."""
    return (*TABLES, *((_OWN[kind],) if kind in _OWN else ()))


def format_by_name(path: Path, kind: Kind) -> str:
    """The format that a file's name says; for tagging a .tsv holds CoNLL columns.

    Raises:
        DataError: the name says none that the task reads.
    """
    suffix = path.suffix.lower()
    known = formats_of(kind)
    if kind == "token" and suffix not in {".jsonl", ".csv", ".json"}:
        return "conll"
    found = "squad" if suffix == ".json" else suffix[1:]
    if found in known:
        return found
    what = f"{suffix} says no format" if suffix else "the name says no format"
    raise DataError.at(str(path), f"{what} that this task reads", f"--format {' | '.join(known)}")


def read_records(stream: BinaryIO, path: Path, layout: str, token: Place = 0) -> Iterator[Record]:
    """Rows of a stream in the format `layout`; `path` is what messages call the stream.

    `token` is the column of the words in CoNLL files, where they have more than one.

    Raises:
        DataError: a header, or a SQuAD file, that no row can be read with.
    """
    lines = _text(stream)
    if layout == "jsonl":
        return _json_rows(lines, path)
    if layout in {"csv", "tsv"}:
        return _table_rows(lines, path, layout)
    if layout == "conll":
        return _sentences(lines, path, token)
    return _questions(lines, path)


def tried(make: Callable[[], T], number: int | None, row: Any) -> T | Bad:
    """What `make` gives, or the row as a bad one."""
    try:
        return make()
    except DataError as error:
        return Bad(number, error, row)


def _text(stream: BinaryIO) -> Iterator[str]:
    """Lines with their ends; a byte that is no UTF-8 stays in, for `check_unicode` to find."""
    # Iterating a stream splits at \n alone, as jsonl needs it: U+2028 may stand inside a string.
    for number, data in enumerate(stream):
        text = data.decode("utf-8", "surrogateescape")
        yield text if number else text.removeprefix("\ufeff")


def _json_rows(lines: Iterable[str], path: Path) -> Iterator[Record]:
    for number, text in enumerate(lines, start=1):
        if text.strip():
            yield _json_row(text.rstrip("\r\n"), path, number)


def _json_row(text: str, path: Path, number: int) -> Record:
    where = f"{path}:{number}"

    def make() -> Line:
        check_unicode(text, where)
        values = json_object(text, where)
        if "\\u" in text:  # an escape may be half a pair, which the text itself does not show
            check_unicode(json.dumps(values, ensure_ascii=False), where)
        return Line(values, path, number)

    return tried(make, number, text)


def _table_rows(lines: Iterable[str], path: Path, layout: str) -> Iterator[Record]:
    # A tab-separated line is a row, as in GLUE's files: what is quoted holds no line end.
    for row in table_rows(lines, path, DELIMITERS[f".{layout}"], quoted=layout == "csv"):
        yield tried(row.line, row.place.number, row.cells or None)


def _sentences(lines: Iterable[str], path: Path, token: Place) -> Iterator[Record]:
    """CoNLL columns, or a word per line; blank lines end sentences.

    CoNLL-2012's columns are known by their numbers, and their words found.
    """
    lines = ("" if is_document(text) else text for text in lines)
    place = token if isinstance(token, int) else None
    words: list[tuple[int, list[str]]] = []
    numbered = enumerate(lines, start=1)
    for number, text in numbered if place is None else ():
        columns = split_columns(text)
        if columns:
            # The first line names the columns, unless it holds just the first word.
            if len(columns) > 1 or columns[0] == token:
                place = named_columns(f"{path}:{number}", text, (token, 0))[0]
            else:
                words.append((number, columns))
            break
    for number, text in without_comments(numbered, inside=bool(words)):
        columns = split_columns(text)
        if columns:
            words.append((number, columns))
        elif words:
            yield _sentence(words, path, place or 0)
            words = []
    if words:
        yield _sentence(words, path, place or 0)


def _sentence(lines: list[tuple[int, list[str]]], path: Path, place: int) -> Record:
    first, columns = lines[0]
    place = WORD_2012 if place == 0 and is_conll2012(columns) else place

    def make() -> Line:
        tokens = [_word(f"{path}:{number}", columns, place) for number, columns in lines]
        return Line({"tokens": tokens}, path, first)

    return tried(make, first, [" ".join(columns) for _, columns in lines])


def _word(where: str, columns: list[str], place: int) -> str:
    word = columns[0] if len(columns) == 1 else pick_columns(where, columns, (place, place))[0]
    check_unicode(word, where)
    return word


def _questions(lines: Iterable[str], path: Path) -> Iterator[Record]:
    text = "".join(lines)
    check_unicode(text, str(path))
    yield from squad_lines(text, path)
