"""Pydantic's errors, each located at a key that the user wrote or left out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from ptv2_cli.config import suggestions
from ptv2_cli.config.origins import KeyPath
from ptv2_cli.config.yaml import kind_of


@dataclass(frozen=True)
class Fault:
    """One error of pydantic's, its location reduced to keys that the user wrote or left out."""

    path: KeyPath
    union: KeyPath | None
    """The key of a union of types, if the error is of one branch; else None."""
    branch: str
    details: ErrorDetails

    @property
    def kind(self) -> str:
        """Pydantic's name of the error."""
        return self.details["type"]

    @property
    def misfit(self) -> bool:
        """Whether the value does not have the shape of this branch at all."""
        return self.path == self.union or self.kind in ("missing", "extra_forbidden")


def read_fault(details: ErrorDetails, data: Any) -> Fault:
    """Walk the data along the location; what the data does not hold names a branch of a union."""
    path: list[str | int] = []
    union: KeyPath | None = None
    branch = ""
    last = len(details["loc"]) - 1
    for i, part in enumerate(details["loc"]):
        if isinstance(data, Mapping) and part in data:
            data = data[str(part)]
        elif isinstance(data, Sequence) and isinstance(part, int) and not isinstance(data, str):
            data = data[part]
        elif not (i == last and details["type"] == "missing"):
            union, branch = (tuple(path), str(part)) if union is None else (union, branch)
            continue
        path.append(part)
    return Fault(tuple(path), union, branch, details)


def grouped(faults: Sequence[Fault]) -> list[list[Fault]]:
    """One group per message: the branches of a union belong together."""
    groups: list[list[Fault]] = []
    unions: dict[KeyPath, list[Fault]] = {}
    for fault in faults:
        if fault.union is None:
            groups.append([fault])
        else:
            unions.setdefault(fault.union, []).append(fault)
    for members in unions.values():
        groups += _branch_meant(members)
    return groups


def _branch_meant(members: list[Fault]) -> list[list[Fault]]:
    """The faults of the branch that fits the value's shape, else all as one group."""
    branches: dict[str, list[Fault]] = {}
    for fault in members:
        branches.setdefault(fault.branch, []).append(fault)
    fitting = [group for group in branches.values() if not any(f.misfit for f in group)]
    inner = [group for group in branches.values() if all(f.path != f.union for f in group)]
    for choice in (fitting, inner):
        if choice:
            return [[fault] for fault in min(choice, key=len)]
    level = [fault for fault in members if fault.path == fault.union]
    return [level]


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
    """What the value must be: the words after `must be`."""
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
    """The value, in words; called text where something else was expected."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        quoted = f'"{value if len(value) <= 60 else value[:57] + "..."}"'
        return quoted if wanted.startswith(("one of", "the word")) else f"the text {quoted}"
    return suggestions.shown(value) or "a number of more than 60 digits"


def better(fault: Fault, value: Any) -> str | None:
    """The value that was probably meant, as it is written in YAML."""
    if fault.kind == "literal_error":
        choices = _choices(fault)
        word = suggestions.SPLITS.get(str(value), str(value).lower())
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
        return f"[{suggestions.SPLITS.get(value, value)}]"
    return None
