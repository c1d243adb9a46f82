"""The words of a fault: what the value must be, what it is, what was probably meant."""

from __future__ import annotations

import difflib
import re
from typing import Any

from ptv2_cli.config import names
from ptv2_cli.config.faults import Fault
from ptv2_cli.config.yaml12 import kind_of

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "dataclass": "a mapping",
    "none_required": "null",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "below {}"),
    "less_than_equal": ("le", "{} or less"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
    "too_short": ("min_length", "a list of {} or more"),
    "too_long": ("max_length", "a list of {} or fewer"),
    "string_too_short": ("min_length", "text of {} or more characters"),
    "string_too_long": ("max_length", "text of {} or fewer characters"),
}
RAISED = ("value_error", "assertion_error")


def wanted(fault: Fault) -> str:
    """What the value must be, to follow `must be`."""
    context = fault.details.get("ctx", {})
    if fault.kind == "greater_than":
        bound = context["gt"]
        return f"{bound + 1} or more" if isinstance(bound, int) else f"above {_number(bound)}"
    if fault.kind in _BOUNDS:
        name, text = _BOUNDS[fault.kind]
        return text.format(_number(context[name]))
    if fault.kind == "literal_error":
        choices = _choices(fault)
        return f"one of {', '.join(choices)}" if len(choices) > 1 else f"the word {choices[0]}"
    if fault.kind in RAISED:
        return str(context.get("error", ""))
    kind = re.sub(r"_(type|parsing|from_float|attributes_type)$", "", fault.kind)
    return _EXPECTED.get(kind) or f"of another kind ({fault.details['msg']})"


def _choices(fault: Fault) -> list[str]:
    expected = str(fault.details.get("ctx", {}).get("expected", ""))
    return [choice.strip("'") for choice in re.split(r", | or ", expected)]


def _number(bound: Any) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def seen(value: Any, wanted: str) -> str:
    """The value seen; text is called so where something else than text was wanted."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        quoted = f'"{value if len(value) <= 60 else value[:57] + "..."}"'
        return quoted if wanted.startswith(("one of", "the word")) else f"the text {quoted}"
    return names.shown(value) or "a number of more than 60 digits"


def better(fault: Fault, value: Any) -> str | None:
    """The value that was probably meant, as it is written in YAML."""
    if fault.kind == "literal_error":
        choices = _choices(fault)
        word = names.SPLITS.get(str(value), str(value).lower())
        near = difflib.get_close_matches(word, choices, n=1)
        return near[0] if near else None
    if fault.kind.startswith(("int", "float")):
        if isinstance(value, str) and kind_of(value.replace("_", "")) in ("int", "float"):
            return value.replace("_", "")
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
    if fault.kind == "bool_type":
        return {"on": "true", "yes": "true", "off": "false", "no": "false"}.get(str(value).lower())
    if fault.kind in ("list_type", "tuple_type") and isinstance(value, str) and value:
        return f"[{names.SPLITS.get(value, value)}]"
    return None
