"""The values of one key that a search may try: a range of numbers, or a list of choices."""

from __future__ import annotations

import difflib
from typing import Any, Literal, get_args

from ptv2_cli.config.faults import seen
from ptv2_cli.config.yaml import Float, Int
from ptv2_cli.errors import ConfigError

Scale = Literal["log", "uniform", "int"]
"""How a range is drawn from: evenly in the logarithm, evenly, or evenly among whole numbers."""
CHOICE = "choice"
KINDS = (*get_args(Scale), CHOICE)
DIGITS = 4
"""Significant digits of a number that was drawn: what is trained is what tables show."""
_SAMPLES = {"log": "[1e-3, 1e-1]", "uniform": "[0, 0.3]", "int": "[4, 128]", CHOICE: "[8, 16]"}


def read_range(key: str, value: Any, where: str) -> tuple[Scale | None, list[Any]]:
    """What `space:` says of a key: a scale with both ends, or None with a list of choices.

    `value` is `{log: [a, b]}`, `{uniform: [a, b]}`, `{int: [a, b]}`, `{choice: [...]}`, or a list,
    which means `choice`.

    Raises:
        ConfigError: it is none of these, or the ends are no range.
    """
    if isinstance(value, list):
        value = {CHOICE: value}
    if not isinstance(value, dict) or len(value) != 1:
        given = "a mapping of several" if isinstance(value, dict) else seen(value, "a mapping")
        what = f"{key} must be one of {', '.join(KINDS)} with its values, not {given}"
        raise ConfigError.at(where, what, f"write {{{key}: {_sample('log')}}}")
    ((kind, ends),) = value.items()
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), [*KINDS, "loguniform"], n=1, cutoff=0.5)
        meant = {"loguniform": "log"}.get(near[0], near[0]) if near else "log"
        raise ConfigError.at(
            where,
            f"{key}: unknown kind of values {kind!r}; known are {', '.join(KINDS)}",
            f"did you mean {meant}? write {{{key}: {_sample(meant)}}}",
        )
    hint = f"write {{{key}: {_sample(kind)}}}"
    if not isinstance(ends, list):
        what = f"{key}: {kind} must have a list, not {seen(ends, 'a list')}"
        raise ConfigError.at(where, what, hint)
    if kind == CHOICE:
        if not ends:
            raise ConfigError.at(where, f"{key}: choice has an empty list", hint)
        return None, ends
    fault = _fault(kind, ends)
    if fault:
        raise ConfigError.at(where, f"{key}: {kind} {fault}", hint)
    return next(scale for scale in get_args(Scale) if scale == kind), ends


def whole(scale: Scale, ends: tuple[Any, Any]) -> bool:
    """Whether a range holds whole numbers only; `log` does if both ends are written so."""
    return scale == "int" or (scale == "log" and all(isinstance(end, int) for end in ends))


def drawn(value: float, ends: tuple[Any, Any]) -> Int | Float:
    """A number that was drawn from a range, as a config has it: few digits, inside the ends."""
    if isinstance(value, int):
        return Int(value)
    rounded = float(f"{value:.{DIGITS}g}")
    return Float(min(max(rounded, float(ends[0])), float(ends[1])))


def _fault(kind: str, ends: list[Any]) -> str:
    """What is wrong with the ends of a range; empty if nothing is."""
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if len(ends) != 2 or not numbers:
        given = ", ".join(seen(end, "a number") for end in ends) or "none"
        return f"must have two numbers, the lowest and the highest, not {given}"
    low, high = ends
    if kind == "int" and not all(isinstance(end, int) for end in ends):
        return f"must have two whole numbers, not {low} and {high}"
    if low >= high:
        return f"must begin with the lower number, not {low} before {high}"
    if kind == "log" and low <= 0:
        return f"must begin above 0, not at {low}: there is no logarithm of it"
    return ""


def _sample(kind: Any) -> str:
    return f"{{{kind}: {_SAMPLES[kind]}}}"
