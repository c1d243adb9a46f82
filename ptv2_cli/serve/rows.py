"""The body of a request to predict: JSON, then rows that the run's task accepts."""

from __future__ import annotations

import json
from typing import Any

from ptv2_cli.data.formats import BadRow, RawRow, Record, row_or_bad
from ptv2_cli.data.rows import Row
from ptv2_cli.errors import DataError, Problem
from ptv2_cli.files import not_writable
from ptv2_cli.runs.prediction.prediction_stream import record_of, visible
from ptv2_cli.serve.limits import Limits
from ptv2_cli.serve.models import CheckedRows, OpenModel
from ptv2_cli.serve.refusal import Refusal
from ptv2_cli.tasks.base import Task

BODY = "the body"
SUCH_AS = 'such as {"rows": [{"text": "..."}]}'


def json_body(body: bytes, keys: dict[str, bool], such_as: str) -> dict[str, Any]:
    """The object that a body holds.

    Args:
        body: the bytes.
        keys: the keys that it may have; True: that it must have.
        such_as: an example, for the message.

    Raises:
        Refusal: 400, it is not a JSON object in UTF-8; 422, it has other keys.
    """
    try:
        content = json.loads(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        what = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise Refusal.of(400, BODY, what, such_as) from None
    except UnicodeDecodeError as error:
        raise Refusal.of(400, BODY, f"is not UTF-8 at byte {error.start}", such_as) from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 1,000 brackets
        raise Refusal.of(400, BODY, f"cannot be read: {error}", such_as) from None
    if not isinstance(content, dict):
        raise Refusal.of(400, BODY, "is not a JSON object", such_as)
    unknown = [key for key in content if key not in keys]
    if unknown:
        what = f"has the key {visible(unknown[0])!r}; its keys are {', '.join(keys)}"
        raise Refusal.of(422, BODY, what, such_as)
    missing = [key for key, needed in keys.items() if needed and key not in content]
    if missing:
        raise Refusal.of(422, BODY, f"has no key {missing[0]!r}", such_as)
    return content


def checked_rows(body: bytes, model: OpenModel, limits: Limits) -> CheckedRows:
    """The rows of a request to predict.

    A row is an object of columns, a text, or a list of texts, as for `Run.predict`.

    Raises:
        Refusal: 400 or 422, see `json_body`, and for rows that the run's task does not accept,
            all of which are named `rows:N`, from 1; 413, they are too many, or too long.
    """
    values = json_body(body, {"rows": True}, SUCH_AS)["rows"]
    if not isinstance(values, list):
        raise Refusal.of(422, "rows", "is no list", SUCH_AS)
    if not values:
        raise Refusal.of(422, "rows", "holds no rows", SUCH_AS)
    if len(values) > limits.max_rows:
        raise _too_many(len(values), limits)
    task = model.run.task
    checked, problems = CheckedRows(model, [], []), list[Problem]()
    too_long = False
    for number, value in enumerate(values, start=1):
        record = _record(task, value, number)
        if isinstance(record, RawRow):
            long = _too_long(record, limits)
            too_long |= long is not None
            record = long or record
        rows = _rows(task, record)
        if isinstance(rows, BadRow):
            problems += rows.error.problems
        else:
            assert isinstance(record, RawRow)
            checked.rows.extend(rows)
            checked.sources.extend([record] * len(rows))
    if problems:
        raise Refusal(413 if too_long else 422, map(_visible, problems))
    if len(checked.rows) > limits.max_rows:  # an object may hold several
        raise _too_many(len(checked.rows), limits)
    return checked


def _record(task: Task, value: Any, number: int) -> Record:
    try:
        record = record_of(task, tuple(value) if isinstance(value, list) else value, number)
    except RecursionError:
        record = BadRow(number, DataError.at(f"rows:{number}", "is nested too deep"))
    reason = None if isinstance(record, BadRow) else not_writable(value)
    if reason is None:
        return record
    hint = "shorten the value, or leave it out"
    return BadRow(number, DataError.at(f"rows:{number}", reason, hint), value)


def _rows(task: Task, record: Record) -> list[Row] | BadRow:
    if isinstance(record, BadRow):
        return record
    return row_or_bad(lambda: task.new_rows(record), record.number, record.values)


def _too_many(count: int, limits: Limits) -> Refusal:
    what = f"holds {count:,} rows, the limit is {limits.max_rows:,}"
    return Refusal.of(413, "rows", what, "send them in several requests")


def _too_long(record: RawRow, limits: Limits) -> BadRow | None:
    size = _characters(record.values)
    if size <= limits.max_chars:
        return None
    what = f"holds {size:,} characters, the limit is {limits.max_chars:,}"
    hint = "send less text; ptv2 serve --max-chars N sets the limit"
    return BadRow(record.number, DataError.at(record.where, what, hint), record.values)


def _characters(value: Any) -> int:
    """The characters of all texts in a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_characters(inner) for inner in value.values())
    return sum(map(_characters, value)) if isinstance(value, list) else 0


def _visible(problem: Problem) -> Problem:
    """The problem with text that UTF-8 can hold: a row may have half a surrogate pair."""
    return Problem(visible(problem.where), visible(problem.what), visible(problem.hint))
