"""Types of a config's values: what each accepts, and how an editor's schema shows it."""

from __future__ import annotations

import codecs
import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from ptv2_cli.errors import ConfigError
from ptv2_cli.registry import Registry


def impossible(what: str, hint: str) -> PydanticCustomError:
    """A pydantic error that becomes a message: what is wrong with the key, and what to type."""
    return PydanticCustomError("impossible", "{what}", {"what": what, "hint": hint})


def _source_text(value: Any) -> Any:
    """Numbers and booleans read from YAML remember their source; a text field takes that."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return getattr(value, "source", value)


def _flag(value: Any) -> Any:
    """Python's and YAML 1.2's other spellings of the two booleans, which arrive as words."""
    return {"True": True, "TRUE": True, "False": False, "FALSE": False}.get(str(value), value)


MAX_COUNT = 2**31
"""No run has as many rows, steps or positions; torch has no room for sizes of 2**63."""


def _below_most(value: int) -> int:
    if value >= MAX_COUNT:
        raise ValueError(f"must be below {MAX_COUNT}")
    return value


Text = Annotated[
    str,
    BeforeValidator(_source_text),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, Field(gt=0), AfterValidator(_below_most)]


def spelled(registry: Registry) -> WithJsonSchema:
    """What editors offer for a name of `registry`."""
    return WithJsonSchema({"enum": registry.spellings()})


def registered(registry: Registry) -> AfterValidator:
    """A name of `registry`, its aliases replaced by the canonical name."""

    def canonical(name: str) -> str:
        try:
            return registry.canonical(name)
        except ConfigError as error:
            problem = error.problems[0]
            raise impossible(problem.what, problem.hint) from None

    return AfterValidator(canonical)


MAX_NAME = 150
"""Most bytes of a run's name; its folder's name adds method, length, seed and fingerprint."""


def plain_name(name: str) -> str:
    """The name of a run, checked: it can be part of a folder's name.

    Raises:
        ValueError: it is not.
    """
    if not name or name.startswith(".") or set(name) & set("/\\") or not name.isprintable():
        raise ValueError(
            "must be usable as part of a folder's name: no / or \\, no leading dot, and nothing "
            "that cannot be printed"
        )
    if len(name.encode()) > MAX_NAME:
        raise ValueError(f"must be usable as part of a folder's name: at most {MAX_NAME} bytes")
    return name


def _off_or_fraction(value: Any) -> float | Literal["off"] | None:
    if value is None or value == "off":
        return value  # type: ignore[no-any-return]
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
        return float(value)
    raise ValueError("must be a number from 0 to below 1, or the word off")


Dropout = Annotated[
    float | Literal["off"] | None,
    PlainValidator(_off_or_fraction),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
                {"enum": ["off", None]},
            ]
        }
    ),
]


HeldDtype = Literal["fp32", "bf16", "fp16"]
HELD_DTYPES: dict[str, HeldDtype] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def one_sign(value: str) -> str:
    """A delimiter: one character that separates fields, or the word tab.

    Raises:
        ValueError: it is something else.
    """
    sign = "\t" if value == "tab" else value
    if len(sign) != 1 or sign in '"\r\n\0' or sign.isalnum():
        raise ValueError('must be one character such as ";", or the word tab')
    return sign


def text_encoding(value: str) -> str:
    """Python's name of an encoding of text.

    Raises:
        ValueError: Python knows none of that name.
    """
    try:
        known = codecs.lookup(value)
        if "a,\n".encode(value).decode(value) == "a,\n" and known.incrementaldecoder:
            return known.name
    except (LookupError, ValueError, TypeError, AssertionError):
        pass
    raise ValueError("must be an encoding such as latin1, cp1252, gb18030 or utf-16")


Delimiter = Annotated[Text, AfterValidator(one_sign)]
Encoding = Annotated[Text, AfterValidator(text_encoding)]


def _eval_every(value: Any) -> int | Literal["epoch"]:
    if value == "epoch":
        return "epoch"
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return int(value)
    raise ValueError("must be the word epoch or a number of steps, 1 or more")


EvalEvery = Annotated[
    int | Literal["epoch"],
    PlainValidator(_eval_every),
    WithJsonSchema({"anyOf": [{"enum": ["epoch"]}, {"type": "integer", "minimum": 1}]}),
]


def _class_weights(value: Any) -> dict[str, float] | Literal["balanced"] | None:
    if value is None or value == "balanced":
        return value  # type: ignore[no-any-return]
    if not isinstance(value, dict) or not value:
        raise ValueError("must be the word balanced or weights by label, {LABEL: WEIGHT}")
    for label, weight in value.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 <= weight < math.inf:
            raise impossible(
                f"gives {label} the weight {getattr(weight, 'source', weight)!s:.60}",
                "a weight is a number, 0 or more; 1 counts a label as it is",
            )
    return {str(_source_text(label)): float(weight) for label, weight in value.items()}


ClassWeights = Annotated[
    dict[str, float] | Literal["balanced"] | None,
    PlainValidator(_class_weights),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["balanced", None]},
                {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
            ]
        }
    ),
]
