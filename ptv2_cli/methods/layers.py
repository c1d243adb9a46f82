"""The option `layers`: `17-24`, `1,3,5`, `first:8`, `last:8`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema


def _layers_text(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return ",".join(str(layer) for layer in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    return value


Layers = Annotated[
    str,
    BeforeValidator(_layers_text),
    WithJsonSchema({"type": ["string", "integer", "array"], "items": {"type": "integer"}}),
]
"""An option that names layers; `parse_layers` reads it when the model is known."""
_PART = re.compile(r"(\d+)(?:-(\d+))?")
_END = re.compile(r"(first|last):(\d+)")


def parse_layers(text: str | None, count: int) -> tuple[int, ...]:
    """0-based layer indices that `text` names in a model of `count` layers; None: all.

    Raises:
        ValueError: the text has another form, or names a layer that the model lacks.
    """
    if text is None:
        return tuple(range(count))
    compact = text.replace(" ", "")
    end = _END.fullmatch(compact)
    if end:
        number = _checked(int(end[2]), count)
        return tuple(range(number) if end[1] == "first" else range(count - number, count))
    chosen: set[int] = set()
    for part in compact.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"layers {text!r} is not of the form 17-24, 1,3,5, first:8 or last:8")
        low = _checked(int(match[1]), count)
        high = _checked(int(match[2] or match[1]), count)
        if low > high:
            raise ValueError(f"layers {part!r} runs backwards")
        chosen.update(range(low - 1, high))
    return tuple(sorted(chosen))


def _checked(number: int, count: int) -> int:
    if not 1 <= number <= count:
        raise ValueError(f"layer {number} does not exist: the model has layers 1 to {count}")
    return number


def attention_places(layers: Mapping[Any, Sequence[int]]) -> tuple[str, ...]:
    """The attention of the layers of each stack, in words; see `MethodSpec.occupies`."""
    return tuple(
        f"the attention of layer {layer + 1}{'' if stack == 'self' else f' ({stack})'}"
        for stack, numbers in layers.items()
        for layer in numbers
    )
