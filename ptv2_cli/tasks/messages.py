"""Rows that hold a conversation: a list of messages, the last of which may be the answer."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any

from ptv2_cli.data.formats import RawRow, short, unknown_column
from ptv2_cli.errors import DataError
from ptv2_cli.inputs.chat import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
FORM = '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'


def check_messages(line: RawRow, column: str) -> list[Message]:
    """The messages in a column: a list, or its JSON text in a table.

    Raises:
        DataError: there is no such column, or it holds something else.
    """
    if column not in line.values:
        raise unknown_column(line.at(line.header), column, line.values)
    value = parsed(line.values[column])
    if not isinstance(value, list) or not value:
        shown = short(value if isinstance(value, str) else json.dumps(value, default=str))
        what = f"column {column!r} holds {shown}"
        raise DataError.at(line.where, what, f"it must be a list of messages: {FORM}")
    for number, message in enumerate(value, start=1):
        _check_message(line, f"message {number} of column {column!r}", message)
    return value


def parsed(value: Any) -> Any:
    """The messages that a cell holds; a text that is no JSON stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def split_answer(messages: Sequence[Message]) -> tuple[list[Message], str | None]:
    """All before the last message and its text if it is the assistant's, else all and None."""
    last = messages[-1]
    if last["role"] != "assistant":
        return list(messages), None
    return list(messages[:-1]), str(last["content"])


def plain_text(messages: Sequence[Message]) -> str:
    """The texts of messages, one after another."""
    return "\n".join(str(message["content"]) for message in messages)


def _check_message(line: RawRow, name: str, message: Any) -> None:
    if not isinstance(message, dict) or not {"role", "content"} <= set(message):
        shown = short(json.dumps(message, default=str, ensure_ascii=False))
        what = f"{name} has no role and content: {shown}"
        raise DataError.at(line.where, what, f"messages are {FORM}")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        near = difflib.get_close_matches(str(role), ROLES, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        what = f"{name} has the role {short(str(role))}"
        raise DataError.at(line.where, what, f"{guess}roles: {', '.join(ROLES)}")
    if not isinstance(content, str):
        shown = short(json.dumps(content, default=str, ensure_ascii=False))
        raise DataError.at(line.where, f"the content of {name} is {shown}", "it must be a text")
