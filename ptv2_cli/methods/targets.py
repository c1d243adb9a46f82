"""The modules that a method of PEFT changes, and its options for PEFT, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from ptv2_cli.config.fields import Text

ALL_LINEAR = "all-linear"


def _names(value: Any) -> Any:
    """A sorted list of names, so that the order does not change the fingerprint."""
    if not isinstance(value, list | tuple | set):
        return value
    if not value:
        raise ValueError("must name at least one module")
    return tuple(sorted({str(getattr(name, "source", name)) for name in value}))


Targets = Annotated[
    Text | tuple[str, ...],
    BeforeValidator(_names),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]
"""A list of ends of dotted module names, or one regular expression for whole names."""


@dataclass(frozen=True)
class PeftOptions:
    """A method of PEFT and its options."""

    kind: Literal["LORA", "IA3", "LN_TUNING"]
    """PEFT's name of the method."""
    targets: Targets | None
    """None: the default of the method."""
    feedforward: Targets | None = None
    """IA3: the targets whose input is scaled; None: the default."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Further options, by PEFT's names."""


def is_named(name: str, targets: Targets) -> bool:
    """Whether `targets` match the name of a module, by PEFT's rules."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in targets)
