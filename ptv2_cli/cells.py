"""Cells of csv and tsv files that people open in a spreadsheet."""

from __future__ import annotations

import re
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def guarded_cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula; all but text as it is.

    Text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe before
    it (OWASP, CSV Injection): labels and texts come from data that somebody else may have written.
    Text that spells a number, such as "-3.5", stays one.
    """
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
