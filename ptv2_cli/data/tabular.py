"""Tables: csv, tsv and xlsx files whose first line names the columns."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from functools import partial
from pathlib import Path
from typing import Any

from ptv2_cli.data.formats import BadRow, RawRow, Record, row_or_bad, short
from ptv2_cli.data.text_decoding import TextLines
from ptv2_cli.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LONGEST_FIELD = 1 << 24
"""In characters: a quote that is never closed must end somewhere."""
_UNCLOSED = re.compile("end of data|field limit")
"""What the csv module says of a quote that is never closed."""
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def read_table(text: TextLines, usual: str, asked: str | None = None) -> Iterator[Record]:
    """Rows of a text whose first line names the columns; every value is text.

    Fields in double quotes may hold the delimiter and line ends (RFC 4180). If every line of a
    file has as many tabs as the header, a quote inside a field is a quote, as in GLUE's files.
    Blank lines are skipped.

    Args:
        text: the text.
        usual: the delimiter that the file's name says. It is taken if it occurs in the header, or
            if none of the others does.
        asked: the delimiter that the user says.

    Raises:
        DataError: the header cannot be used.
    """
    first = text.first(str.strip).strip().splitlines()
    delimiter = asked or sniffed_delimiter(first[0] if first else "", usual)
    quoted = delimiter != "\t" or not _is_plain(text.again())
    header: list[str] = []
    header_line = 0

    def row(number: int, fields: list[str]) -> RawRow:
        text.check_line("".join(fields), number)
        if len(fields) != len(header):
            raise DataError.at(
                f"{text.path}:{number}",
                f"{len(fields)} field{'' if len(fields) == 1 else 's'}, but the header names "
                f"{len(header)}: {', '.join(header)}",
                f'put a field that holds {_named(delimiter)} or line ends in quotes: "a, b"',
            )
        return RawRow(dict(zip(header, fields, strict=True)), text.path, number, None, header_line)

    for number, cells, broken in _fields(text, delimiter, quoted):
        if broken is not None:
            yield BadRow(number, broken)
        elif not header:
            text.check(" ".join(cells), f"{text.path}:{number}")
            header, header_line = _header(f"{text.path}:{number}", cells, delimiter), number
        else:
            fields = cells if quoted else [_unquoted(cell) for cell in cells]
            try:
                yield row(number, fields)
            except DataError as error:
                yield BadRow(number, error, fields)


def sniffed_delimiter(header: str, usual: str) -> str:
    """The delimiter of a header: the usual one, or another one if that occurs nowhere in it."""
    bare = re.sub(r'"[^"]*"', "", header)
    if usual in bare:
        return usual
    frequent = max(_NAMES, key=bare.count)
    return frequent if frequent in bare else usual


def _fields(
    text: TextLines, delimiter: str, quoted: bool
) -> Iterator[tuple[int, list[str], DataError | None]]:
    """First line and fields of each row that is not blank, or the error of one that is no csv.

    `quoted`: quotes may hold delimiters and line ends.
    """
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(
        _ended(text.pieces()),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            broken = DataError.at(
                f"{text.path}:{number}",
                f"a row that begins here cannot be read: {error}",
                'a quote inside a quoted field is written twice: "he said ""no"""',
            )
            # A quote that nothing closes takes in all later rows: they must not be lost as one.
            if reader.line_num > number and _UNCLOSED.search(str(error)):
                raise broken from None
            yield number, [], broken
            continue
        if any(map(str.strip, cells)):
            yield number, cells, None


def _ended(pieces: Iterable[list[str]]) -> Iterator[str]:
    """Lines that a carriage return alone ends too, as in tables of old Macs."""
    for lines in pieces:
        text = "".join(lines)
        if text.count("\r") == text.count("\r\n"):
            yield from lines
        else:
            yield from (each for line in lines for each in io.StringIO(line, newline=""))


def _is_plain(text: TextLines | None) -> bool:
    """Whether every line is a whole row, with as many tabs as all; assumed of None."""
    pieces = text.pieces() if text else ()
    counts = {line.count("\t") for line in _ended(pieces) if line.strip()}
    return len(counts) <= 1


def _unquoted(field: str) -> str:
    """The content of a field that as a whole is quoted as RFC 4180 has it; else the field."""
    inner = field[1:-1]
    if len(field) < 2 or field[0] != '"' or field[-1] != '"' or '"' in inner.replace('""', ""):
        return field
    return inner.replace('""', '"')


def _header(where: str, fields: list[str], delimiter: str) -> list[str]:
    """The names of the columns.

    Raises:
        DataError: another delimiter, or a name that occurs twice.
    """
    names = [field.strip() for field in fields]
    if len(names) == 1:
        other = next((sign for sign in _NAMES if sign in names[0]), None)
        if other is not None:
            raise DataError.at(
                where,
                f"the header is one column, {names[0]!r}: its names are separated by "
                f"{_NAMES[other]}, not by {_named(delimiter)}",
                f"task.delimiter: {json.dumps(other)} (ptv2 predict: --delimiter); without one "
                "ptv2 looks for it",
            )
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError.at(where, f"two columns are called {twice!r}", "give them other names")
    return names


def _named(delimiter: str) -> str:
    return _NAMES.get(delimiter, repr(delimiter))


def read_workbook(path: Path, data: bytes | None = None) -> Iterator[Record]:
    """Rows of the first sheet; every value is text, as a csv file of the sheet would have it.

    Empty rows are skipped. A formula's value is its last result.

    Args:
        path: the file, or what messages call it.
        data: its content, if it is no file.

    Raises:
        DataError: it is no .xlsx file, openpyxl is not installed, or the header cannot be used.
    """
    header: list[str] = []
    header_line = 1

    def row(number: int, texts: list[str]) -> RawRow:
        if len(texts) > len(header):
            raise DataError.at(
                f"{path}:{number}",
                f"{len(texts)} cells, but the header names {len(header)}: {', '.join(header)}",
                "name the other columns in the first row, or empty their cells",
            )
        filled = [*texts, *[""] * (len(header) - len(texts))]
        return RawRow(dict(zip(header, filled, strict=True)), path, number, header=header_line)

    for number, cells in enumerate(_sheet(path, data), start=1):
        texts = [_text(cell) for cell in cells]
        while texts and not texts[-1].strip():
            texts.pop()
        if texts and not header:
            header, header_line = _header(f"{path}:{number}", texts, ","), number
        elif texts:
            yield row_or_bad(partial(row, number, texts), number, texts)


def _sheet(path: Path, data: bytes | None) -> Iterator[tuple[Any, ...]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        what = "reading .xlsx files needs openpyxl, which is not installed"
        raise DataError.at(str(path), what, "pip install 'ptv2[xlsx]'") from None
    try:
        source = io.BytesIO(path.read_bytes() if data is None else data)
    except OSError as error:
        raise DataError.at(str(path), f"cannot be read: {error.strerror}") from None
    try:
        book = load_workbook(source, read_only=True, data_only=True)
        yield from book.worksheets[0].iter_rows(values_only=True)
    except Exception as error:  # a damaged file may raise anything in zipfile, XML and openpyxl
        what = f"no .xlsx file that can be read: {short(str(error) or type(error).__name__)}"
        raise DataError.at(str(path), what, "save it again as .xlsx, or as .csv") from None


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    return cell.isoformat() if isinstance(cell, datetime | date | time) else str(cell)
