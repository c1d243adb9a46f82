"""JSON from outside: whatever is wrong with the text becomes one error that says where."""

from __future__ import annotations

import json
import re
from typing import Any

from ptv2_cli.errors import InputError

MAX_DEPTH = 100
"""Most objects and lists that lie inside each other; what reads them further is recursive."""
_HALF = re.compile("[\ud800-\udfff]")


def parse_json(text: str, where: str, error: type[InputError], hint: str = "") -> Any:
    """The value of a JSON text, in which every text can be written as UTF-8.

    Args:
        text: one JSON value; `NaN` and infinities are read too.
        where: what messages call the text.
        error: the class of the errors raised.
        hint: what to do where it cannot be read.

    Raises:
        InputError: of the class asked for: no JSON, brackets nested too deeply, a number of
            thousands of digits, or half a surrogate pair in a text.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as found:
        at = f"line {found.lineno}, column {found.colno}"
        raise error.at(where, f"is no JSON: {found.msg} at {at}", hint) from None
    except (ValueError, RecursionError) as found:  # a number of 5,000 digits, 1,000 brackets
        raise error.at(where, f"cannot be read: {found}", hint) from None
    bad = unfit(value)
    if bad is not None:
        raise error.at(where, bad, hint)
    return value


def unfit(value: Any) -> str | None:
    """Why nested data cannot be written out again: its depth, or a text; None: it can."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                half = _HALF.search(item)
                if half is not None:
                    return f"half a surrogate pair: \\u{ord(half[0]):04x}"
            elif isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
        if not below:
            return None
        level = below
    return f"nested more than {MAX_DEPTH} deep"
