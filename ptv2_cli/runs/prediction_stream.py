"""New rows in groups: checked, in order, the bad ones set apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ptv2_cli.data.formats import BadRow, RawRow, Record, tried
from ptv2_cli.data.rows import Row
from ptv2_cli.data.text_decoding import check_unicode
from ptv2_cli.errors import DataError
from ptv2_cli.scoring.scores import Prediction


@dataclass(frozen=True)
class Chunk:
    """Prediction lines of neighbouring rows, in their order, and the bad ones among them."""

    lines: list[Prediction]
    bad: list[BadRow]


class NewRows(Protocol):
    """What checks a row: a task, or several."""

    def new_rows(self, line: RawRow) -> list[Row]:
        """The rows to predict that a line holds."""


def bad_line(bad: BadRow) -> dict[str, Any]:
    """A line of FILE.bad.jsonl: `line`, `reason`, `hint` and what was read of the row."""
    problem = bad.error.problems[0]
    reason, hint = visible(problem.what), visible(problem.hint)
    return {"line": bad.number, "reason": reason, "hint": hint, "row": visible(bad.row)}


def visible(value: Any) -> Any:
    """A value that can be written as UTF-8: bytes that were none read `\\xe9`, as in Python."""
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


def record_of(row: Any, number: int) -> Record:
    """What Python gave as a row, as if it were read."""
    path = Path("rows")

    def make() -> RawRow:
        if not isinstance(row, Mapping):
            what = f"a {type(row).__name__} is no row"
            raise DataError.at(f"{path}:{number}", what, "a row is a dict of columns")
        line = RawRow(dict(row), path, number)
        check_unicode(json.dumps(line.values, ensure_ascii=False, default=str), line.where)
        return line

    return tried(make, number, row)


def gathered(
    task: NewRows, records: Iterable[Record], size: int, skip_bad: bool
) -> Iterator[tuple[list[Row], list[BadRow]]]:
    """Checked rows in groups of `size`; a bad row that is not skipped ends the last.

    A group is longer by the rest of its last record where records hold several rows.
    """
    rows: list[Row] = []
    bad: list[BadRow] = []
    try:
        for record in records:
            checked = _checked(task, record)
            if isinstance(checked, BadRow):
                bad.append(checked)
            else:
                rows += checked
            if len(rows) + len(bad) >= size or (bad and not skip_bad):
                yield rows, bad
                rows, bad = [], []
    except DataError:  # the rest cannot be read: what came before it counts
        yield rows, bad
        raise
    if rows or bad:
        yield rows, bad


def _checked(task: NewRows, record: Record) -> list[Row] | BadRow:
    if isinstance(record, BadRow):
        return record
    return tried(lambda: task.new_rows(record), record.number, record.values)
