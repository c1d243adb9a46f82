"""New rows in groups: checked, answered in their order, the bad ones kept apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ptv2_cli.data.formats import BadRow, RawRow, Record, row_or_bad
from ptv2_cli.data.rows import Row
from ptv2_cli.data.text_decoding import check_unicode
from ptv2_cli.errors import DataError, UnfitRow
from ptv2_cli.runs.prediction.read_ahead import ReadAhead
from ptv2_cli.runs.run_files import PredictionLine
from ptv2_cli.tasks.base import Task

_E = TypeVar("_E")


@dataclass(frozen=True)
class Chunk:
    """Prediction lines of neighbouring rows, in their order, and the bad ones among them."""

    lines: list[PredictionLine]
    bad: list[BadRow]


class NewRows(Protocol):
    """What checks a row: a task, or several."""

    def new_rows(self, line: RawRow) -> list[Row]:
        """The rows to predict that a line holds."""


def bad_line(bad: BadRow) -> dict[str, Any]:
    """A line of FILE.bad.jsonl: `line`, `reason`, `hint` and the row as far as it was read."""
    problem = bad.error.problems[0]
    reason, hint = visible(problem.what), visible(problem.hint)
    return {"line": bad.number, "reason": reason, "hint": hint, "row": visible(bad.row)}


def visible(value: Any) -> Any:
    """A value that can be written as UTF-8: other bytes become `\\xe9`, as in Python."""
    if isinstance(value, Mapping):
        return {visible(key): visible(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [visible(inner) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:  # surrogateescape has put each byte at U+DC00 and above
        return "".join(map(_shown, value))
    return value


def _shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if 0xD800 <= code <= 0xDFFF else character


def record_of(task: Task, row: Any, number: int) -> Record:
    """A row that Python gave, as if it had been read: a dict of columns, a text, or texts."""
    path = Path("rows")

    def make() -> RawRow:
        line = RawRow(_columns(task, row, f"{path}:{number}"), path, number)
        check_unicode(json.dumps(line.values, ensure_ascii=False, default=str), line.where)
        return line

    return row_or_bad(make, number, row)


def _columns(task: Task, row: Any, where: str) -> dict[str, Any]:
    """The row as a dict; a text or a tuple of texts stands for the task's text columns."""
    if isinstance(row, Mapping):
        return dict(row)
    texts = (row,) if isinstance(row, str) else row
    if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
        what = f"is of the type {type(row).__name__}"
        raise DataError.at(where, what, "a row is a dict of columns, a text, or a tuple of texts")
    names = {"token": ("text",), "choice": ()}.get(task.kind, task.columns)
    if task.parts or not names:
        raise DataError.at(where, f"a row of {task.name} is not plain text", "give a dict")
    if len(texts) != len(names):
        read = "1 text" if len(names) == 1 else f"{len(names)} texts"
        given = "1 text" if len(texts) == 1 else f"{len(texts)} texts"
        wanted = f'"{names[0]}"' if len(names) == 1 else f"({', '.join(names)})"
        hint = f"give {wanted}, or a dict of these columns"
        what = f"holds {given}, and {task.name} reads {read}: {', '.join(names)}"
        raise DataError.at(where, what, hint)
    return {names[0]: texts[0]} if task.kind == "token" else task.columns_of(texts)


def chunks(
    task: NewRows,
    encode: Callable[[list[Row]], _E],
    answer: Callable[[list[Row], _E], list[PredictionLine]],
    records: Iterable[Record],
    size: int,
    skip_bad: bool,
    ahead: bool,
) -> Iterator[Chunk]:
    """Check rows, in groups of `size`, encode and answer them.

    A group is longer by the rest of its last record where records hold several rows.

    Args:
        task: checks the rows.
        encode: makes features of a group's rows; it loads the model when it is first called.
        answer: predicts a group's rows from their features.
        records: rows and bad rows.
        size: rows of a group.
        skip_bad: continue after a bad row.
        ahead: read and encode the next group in a thread while one is answered.

    Raises:
        DataError: a row is bad, or does not fit the model, and is not to be skipped, or the rest
            cannot be read; what came before it is answered first.
    """
    groups = _encoded(_groups(task, records, size, skip_bad), encode, skip_bad)
    with ExitStack() as stack:
        # The first rows are checked, and the model loaded, in the caller's thread.
        first = list(islice(groups, 1))
        rest = stack.enter_context(ReadAhead(groups)) if ahead and first else groups
        for rows, bad, encoded in chain(first, rest):
            yield Chunk([] if encoded is None else answer(rows, encoded), bad)
            if bad and not skip_bad:
                raise bad[0].error


@dataclass(frozen=True)
class _Group:
    """Neighbouring rows."""

    rows: list[Row]
    lines: list[RawRow]
    """What each row was read from."""
    bad: list[BadRow]


def _encoded(
    groups: Iterator[_Group], encode: Callable[[list[Row]], _E], skip_bad: bool
) -> Iterator[tuple[list[Row], list[BadRow], _E | None]]:
    """The groups with what `encode` makes of their rows; None without rows."""
    for group in groups:
        try:
            encoded = encode(group.rows) if group.rows else None
        except UnfitRow:
            group = _fitting(group, encode, skip_bad)
            encoded = encode(group.rows) if group.rows else None
        yield group.rows, group.bad, encoded


def _fitting(group: _Group, encode: Callable[[list[Row]], Any], skip_bad: bool) -> _Group:
    """The group with its unfit rows among the bad ones; it ends with the first to stop at."""
    rows: list[Row] = []
    lines: list[RawRow] = []
    unfit: list[BadRow] = []
    for row, line in zip(group.rows, group.lines, strict=True):
        try:
            encode([row])
        except UnfitRow as error:
            (problem,) = error.problems
            named = DataError.at(line.where, problem.what, problem.hint)
            unfit.append(BadRow(line.number, named, line.values))
            if not skip_bad:
                return _Group(rows, lines, unfit)
        else:
            rows.append(row)
            lines.append(line)
    bad = sorted([*group.bad, *unfit], key=lambda each: each.number or 0)
    return _Group(rows, lines, bad)


def _groups(
    task: NewRows, records: Iterable[Record], size: int, skip_bad: bool
) -> Iterator[_Group]:
    group = _Group([], [], [])
    try:
        for record in records:
            checked = _checked(task, record)
            if isinstance(checked, BadRow):
                group.bad.append(checked)
            else:
                assert isinstance(record, RawRow)
                group.rows.extend(checked)
                group.lines.extend([record] * len(checked))
            if len(group.rows) + len(group.bad) >= size or (group.bad and not skip_bad):
                yield group
                group = _Group([], [], [])
    except DataError:  # the rest cannot be read: what came before it counts
        yield group
        raise
    if group.rows or group.bad:
        yield group


def _checked(task: NewRows, record: Record) -> list[Row] | BadRow:
    if isinstance(record, BadRow):
        return record
    return row_or_bad(lambda: task.new_rows(record), record.number, record.values)
