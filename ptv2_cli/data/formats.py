"""Rows as files hold them, and the formats jsonl, json, SQuAD json and parquet."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ptv2_cli.data.text_decoding import TextLines, check_unicode
from ptv2_cli.errors import DataError
from ptv2_cli.files import MAX_DEPTH, not_writable

T = TypeVar("T")


@dataclass(slots=True)
class RawRow:
    """The values of one row as read, and where they were read. Do not change it.

    It is not frozen: a million of them would take a second longer.
    """

    values: dict[str, Any]
    path: Path
    number: int | None = None
    """Line (or row) of the file, from 1; None where it has no lines."""
    numbers: list[int] | None = None
    """Line of every word, for formats that have a line per word."""
    header: int | None = None
    """Line that names the columns, for formats that have one."""
    part: str | None = None
    """Which row of the line this is, for formats whose lines hold several."""

    @property
    def where(self) -> str:
        """`file:line`, and which of the line's rows if it holds several."""
        return self.at(None)

    def at(self, number: int | None) -> str:
        """`file:line` of a part of the row that has its own line."""
        number = number or self.number
        where = str(self.path) if number is None else f"{self.path}:{number}"
        return where if self.part is None else f"{where}: {self.part}"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used."""

    number: int | None
    """Its (first) line, from 1; None if rows have no line."""
    error: DataError
    row: Any = None
    """What was read of it: its values, or its text if that is no row at all."""


Record = RawRow | BadRow


def row_or_bad(make: Callable[[], T], number: int | None, read: Any) -> T | BadRow:
    """What `make` gives, or a bad row with its line `number` and what was `read` of it."""
    try:
        return make()
    except DataError as error:
        return BadRow(number, error, read)


def read_each_line(
    lines: Iterable[str], text: TextLines, values_of: Callable[[str, str], dict[str, Any]]
) -> Iterator[Record]:
    """A row per line that is not blank.

    Args:
        lines: the lines.
        text: where they come from.
        values_of: `values_of(line, where)` gives the values of a line.
    """

    def row(line: str, number: int) -> RawRow:
        text.check_line(line, number)
        return RawRow(values_of(line, f"{text.path}:{number}"), text.path, number)

    for number, line in enumerate(lines, start=1):
        if line.strip():
            bare = line.rstrip("\r\n")
            yield row_or_bad(partial(row, bare, number), number, bare)


def read_jsonl(text: TextLines) -> Iterator[Record]:
    """A JSON object per line; blank lines are skipped."""
    return read_each_line(text, text, json_object)


def json_object(text: str, where: str) -> dict[str, Any]:
    """The object that a line of jsonl holds.

    Raises:
        DataError: it is no JSON, or no object, or it cannot be written as UTF-8.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError.at(
            where,
            f"no JSON: {error.msg} at column {error.colno}: {short(text)}",
            "every line must be one JSON object",
        ) from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 1,000 brackets
        raise DataError.at(where, f"cannot be read: {error}: {short(text)}") from None
    if not isinstance(values, dict):
        raise DataError.at(where, f"no JSON object: {short(text)}", 'such as {"label": "x"}')
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_writable(values, where)
    if "\\u" in text:  # an escape may be half a pair, which the text itself does not show
        check_unicode(json.dumps(values, ensure_ascii=False), where)
    return values


def _check_writable(values: Any, where: str) -> None:
    """Check that predictions can hold what a file does."""
    reason = not_writable(values)
    if reason is not None:
        raise DataError.at(where, reason, "shorten the value, or leave it out")


def read_json(text: TextLines, squad: bool) -> Iterator[Record]:
    """A list of objects, each a row; with `squad` SQuAD's layout; or lines of JSON after all.

    The file is read as a whole.

    Raises:
        DataError: it is neither.
    """
    path, whole = text.path, text.whole()
    try:
        content = json.loads(whole)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from read_each_line(whole.split("\n"), text, json_object)
            return
        what = f"no JSON: {error.msg} at column {error.colno}"
        raise DataError.at(f"{path}:{error.lineno}", what) from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 1,000 brackets
        raise DataError.at(str(path), f"cannot be read: {error}") from None
    if isinstance(content, list):
        for number, values in enumerate(content, start=1):
            yield _json_item(values, text, number)
    elif (
        isinstance(content, dict)
        and "\n" not in whole.strip()
        and ("context" in content or not squad)
    ):
        yield from read_each_line([whole], text, json_object)  # a file of one row
    elif squad:
        text.check(whole, str(path))
        _check_writable(content, str(path))
        yield from squad_lines(content, path)
    else:
        raise DataError.at(str(path), "no list of rows", "it is a list of objects: [{...}, {...}]")


def _json_item(values: Any, text: TextLines, number: int) -> Record:
    where = f"{text.path}: row {number}"

    def make() -> RawRow:
        _check_writable(values, where)
        if not isinstance(values, dict):
            what = f"no JSON object: {short(json.dumps(values))}"
            raise DataError.at(where, what, 'a row is such as {"label": "x"}')
        text.check(json.dumps(values, ensure_ascii=False), where)
        return RawRow(values, text.path, part=f"row {number}")

    return row_or_bad(make, number, values)


def squad_lines(content: Mapping[str, Any], path: Path) -> Iterator[RawRow]:
    """SQuAD's nested JSON, 1.1 or 2.0: a row per question, with its paragraph as `context`.

    Raises:
        DataError: it has another layout.
    """
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    shared = {"title": article.get("title"), "context": paragraph["context"]}
                    yield RawRow(shared | question, path)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"no {error.args[0]!r}" if isinstance(error, KeyError) else "other types"
        raise DataError.at(
            str(path),
            f"not SQuAD's layout: {what}",
            'it is {"data": [{"paragraphs": [{"context": "...", "qas": [...]}]}]}',
        ) from None


def read_parquet(
    path: Path, columns: Mapping[str, str], values: Mapping[str, str]
) -> Iterator[RawRow]:
    """A parquet file as the hub converts data sets, read in memory.

    Class numbers become their names by the file's own metadata, -1 becomes None.

    Args:
        path: the file.
        columns: our column names to the file's.
        values: the file's class names to ours.

    Raises:
        DataError: the file is no parquet file.
    """
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]
    from datasets import Features

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError.at(
            str(path), f"no parquet file: {short(str(error))}", "download it again"
        ) from None
    ours = {theirs: name for name, theirs in columns.items() if theirs in table.column_names}
    names = {
        column: [values.get(name, name) for name in classes]
        for column, feature in Features.from_arrow_schema(table.schema).items()
        if (classes := _class_names(feature))
    }
    for number, row in enumerate(table.to_pylist(), start=1):
        named = {key: _named(_as_json(value), names.get(key)) for key, value in row.items()}
        yield RawRow({ours.get(key, key): value for key, value in named.items()}, path, number)


def _as_json(value: Any) -> Any:
    """A value of a parquet file as JSON holds it: dates and decimals are texts, bytes are null."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    if isinstance(value, bytes):
        return None
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _class_names(feature: Any) -> list[str]:
    """Names of a ClassLabel or of a list of them; none of any other column."""
    own = getattr(feature, "names", None)
    return list(own or getattr(getattr(feature, "feature", None), "names", None) or ())


def _named(value: Any, names: list[str] | None) -> Any:
    if names is None or value is None:
        return value
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if 0 <= value < len(names) else None


def unknown_column(where: str, name: str, present: Iterable[str]) -> DataError:
    """The error of a column that a file does not have."""
    known = [column for column in present if column]
    spelled = {column.casefold(): column for column in known}
    near = difflib.get_close_matches(name.casefold(), spelled, n=1)
    guess = f"did you mean {spelled[near[0]]!r}? " if near else ""
    return DataError.at(
        where, f"no column {name!r}", f"{guess}columns here: {', '.join(known) or 'none'}"
    )


def short(text: str) -> str:
    """A text as a message quotes it."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
