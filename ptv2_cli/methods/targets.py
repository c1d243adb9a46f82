"""Which modules of the backbone a method of PEFT changes, and what PEFT is told; no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from ptv2_cli.config.fields import Text

ALL_LINEAR = "all-linear"


def _names(value: Any) -> Any:
    """A list of names in one order, so that equal lists make equal runs."""
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
"""Names of modules, each the end of a dotted name; or one regular expression for whole names."""


@dataclass(frozen=True)
class PeftOptions:
    """A method of PEFT and its options."""

    kind: Literal["LORA", "IA3", "LN_TUNING"]
    """PEFT's name of it."""
    targets: Targets | None
    """None: those that the method has by default."""
    feedforward: Targets | None = None
    """Of IA3: the targets whose input is scaled; None: those that it has by default."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Further options, by PEFT's names."""


def is_named(name: str, targets: Targets) -> bool:
    """Whether targets name a module, as PEFT reads them."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in targets)
