"""Cells of csv and tsv files that people open in a spreadsheet."""

from __future__ import annotations

from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guarded_cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula; all but text as it is.

    Text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe before
    it (OWASP, CSV Injection): labels and texts come from data that somebody else may have written.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
