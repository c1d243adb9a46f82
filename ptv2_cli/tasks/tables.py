"""Tables: csv and tsv files whose first line names the columns."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.decoding import read_text
from ptv2_cli.tasks.formats import Line

DELIMITERS = {".csv": ",", ".tsv": "\t"}
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ESCAPED = {",": ",", ";": ";", "\t": "\\t", "|": "|"}


def read_table(path: Path) -> Iterator[Line]:
    """Rows of a csv or tsv file, as its name says; every value is text. Blank lines are skipped.

    Fields in double quotes may hold the delimiter and line ends (RFC 4180). In a tsv file whose
    lines all have the header's number of fields a quote inside a field is a quote, as in GLUE's.

    Raises:
        DataError: a row with more or fewer fields than the header, an open quote, another
            delimiter than the name says, or a header that names a column twice.
    """
    delimiter = DELIMITERS[path.suffix.lower()]
    text = read_text(path)
    quoted = delimiter != "\t" or not _is_plain(text)
    rows = _rows(path, text, delimiter, quoted)
    number, first = next(rows, (1, []))
    header = table_header(f"{path}:{number}", path, first, delimiter)
    for at, fields in rows:
        values = fields if quoted else [unquoted(field) for field in fields]
        named = table_values(f"{path}:{at}", values, header, delimiter)
        yield Line(named, path, at, header=number)


def _rows(path: Path, text: str, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Fields of each row that is not blank, with its first line."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    number = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise unreadable(f"{path}:{number}", error) from None
        if any(field.strip() for field in fields):
            yield number, fields
        number = reader.line_num + 1


def _is_plain(text: str) -> bool:
    """Whether every line of a tsv text is a whole row: no field holds a line end."""
    counts = {line.count("\t") for line in text.splitlines() if line.strip()}
    return len(counts) <= 1


def unreadable(where: str, error: csv.Error) -> DataError:
    """The error of a row that is no csv."""
    return DataError.at(
        where,
        f"a row that begins here cannot be read: {error}",
        'a quote inside a quoted field is written twice: "he said ""no"""',
    )


def table_values(
    where: str, fields: list[str], header: list[str], delimiter: str
) -> dict[str, str]:
    """A row's fields by the names of the header.

    Raises:
        DataError: there are more or fewer of them.
    """
    if len(fields) != len(header):
        raise DataError.at(
            where,
            f"{len(fields)} fields, but the header names {len(header)}: {', '.join(header)}",
            f'a field that holds {_NAMES[delimiter]} or line ends stands in quotes: "a, b"',
        )
    return dict(zip(header, fields, strict=True))


def unquoted(field: str) -> str:
    """The content of a field that as a whole is quoted as RFC 4180 has it; else the field."""
    inner = field[1:-1]
    if len(field) < 2 or field[0] != '"' or field[-1] != '"' or '"' in inner.replace('""', ""):
        return field
    return inner.replace('""', '"')


def table_header(where: str, path: Path, fields: list[str], delimiter: str) -> list[str]:
    """The names of the columns.

    Raises:
        DataError: another delimiter, or a name that stands twice.
    """
    names = [field.strip() for field in fields]
    if len(names) == 1:
        other = next((sign for sign in _NAMES if sign in names[0]), None)
        if other is not None:
            raise DataError.at(
                where,
                f"the header is one column, {names[0]!r}: its fields are parted by "
                f"{_NAMES[other]}, not by {_NAMES[delimiter]}",
                _rewrite(path, other, delimiter),
            )
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError.at(where, f"two columns are called {twice!r}", "give them other names")
    return names


def _rewrite(path: Path, delimiter: str, wanted: str) -> str:
    """A command that changes the delimiter of a file."""
    read = f"csv.reader(sys.stdin, delimiter='{_ESCAPED[delimiter]}')"
    write = f"csv.writer(sys.stdout, delimiter='{_ESCAPED[wanted]}').writerows({read})"
    new = path.with_name(f"{path.stem}-new{path.suffix}")
    return (
        f'python3 -c "import csv, sys; {write}" '
        f"< {shlex.quote(str(path))} > {shlex.quote(str(new))}"
    )
