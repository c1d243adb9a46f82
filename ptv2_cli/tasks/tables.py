"""Tables: csv and tsv files whose first line names the columns."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.decoding import check_unicode, read_text
from ptv2_cli.tasks.formats import Line

DELIMITERS = {".csv": ",", ".tsv": "\t"}
FIELD = 1 << 24
"""Longest field, in characters: a quote that is never closed must end somewhere."""
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
    for row in table_rows(io.StringIO(text, newline=""), path, delimiter, quoted):
        yield row.line()


@dataclass(frozen=True)
class TableRow:
    """A row as read, which may be none."""

    place: Line
    """Where it stands, without values."""
    cells: list[str]
    header: list[str]
    delimiter: str
    broken: DataError | None = None

    def line(self) -> Line:
        """The row's values by the names of the header.

        Raises:
            DataError: it is no csv, no UTF-8, or has more or fewer fields than the header.
        """
        if self.broken is not None:
            raise self.broken
        check_unicode("".join(self.cells), self.place.where)
        named = table_values(self.place.where, self.cells, self.header, self.delimiter)
        return replace(self.place, values=named)


def table_rows(
    lines: Iterable[str], path: Path, delimiter: str, quoted: bool
) -> Iterator[TableRow]:
    """The rows below the header, of lines with their ends, read one at a time.

    Args:
        lines: the text.
        path: what messages call it.
        delimiter: what parts the fields.
        quoted: whether quotes may hold delimiters and line ends; else they are undone only where
            they surround a whole field.

    Raises:
        DataError: the header cannot be used.
    """
    header: list[str] = []
    place = Line({}, path)
    for number, cells, broken in _fields(lines, path, delimiter, quoted):
        at = replace(place, number=number)
        if not header and broken is None:
            check_unicode(" ".join(cells), at.where)
            header = table_header(at.where, path, cells, delimiter)
            place = replace(place, header=number)
        else:
            fields = cells if quoted else [unquoted(cell) for cell in cells]
            yield TableRow(at, fields, header, delimiter, broken)


def _fields(
    lines: Iterable[str], path: Path, delimiter: str, quoted: bool
) -> Iterator[tuple[int, list[str], DataError | None]]:
    """First line and fields of each row that is not blank; or the error of one that is no csv."""
    csv.field_size_limit(FIELD)
    reader = csv.reader(
        iter(lines),
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
            yield number, [], unreadable(f"{path}:{number}", error)
            continue
        if any(cell.strip() for cell in cells):
            yield number, cells, None


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
