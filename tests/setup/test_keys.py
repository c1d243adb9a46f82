"""The schema as a flat list of keys: types and defaults in words."""

from __future__ import annotations

from typing import Any

import pytest

from ptv2_cli.setup.keys import Key, flat_keys


def key(node: dict[str, Any]) -> Key:
    return flat_keys({"properties": {"x": node}})[0]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"type": "integer", "exclusiveMinimum": 0}, "whole number, 1 or more"),
        ({"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 1},
         "number, 0 or more, below 1"),
        ({"type": "number", "exclusiveMinimum": 0}, "number, above 0"),
        ({"type": ["string", "number", "boolean", "null"]}, "text"),
        ({"type": "boolean"}, "true or false"),
        ({"enum": ["a", "b", None]}, "a or b"),
        ({"anyOf": [{"enum": ["epoch"]}, {"type": "integer", "minimum": 1}]},
         "epoch or whole number, 1 or more"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "list of a or b"),
        ({"anyOf": [{"enum": ["zero"]}, {"type": "object", "properties": {
            "normal": {"type": "number"}}}]}, "zero or {normal: number}"),
        ({"type": ["object", "null"]}, "mapping"),
    ],
)  # fmt: skip
def test_types_in_words(node: dict[str, Any], words: str) -> None:
    assert key(node).type == words


@pytest.mark.parametrize(
    ("node", "default", "meaning"),
    [
        ({"default": 32, "description": "rows"}, "32", "rows"),
        ({"default": False, "description": "off"}, "false", "off"),
        ({"default": 1e-5, "description": "rate"}, "1e-05", "rate"),
        ({"default": ["a"], "description": "list"}, "[a]", "list"),
        ({"description": "rate; default: the method's"}, "the method's", "rate"),
        ({"description": "default: the mean"}, "the mean", "the mean"),
        ({"description": "none"}, "", "none"),
    ],
)
def test_defaults(node: dict[str, Any], default: str, meaning: str) -> None:
    assert (key(node).default, key(node).meaning) == (default, meaning)


def test_sections_options_and_needs() -> None:
    schema = {
        "properties": {
            "a": {"anyOf": [{"enum": ["m", "n"]}, {
                "type": "object",
                "properties": {"name": {"enum": ["m", "n"]}},
                "allOf": [{"if": {"properties": {"name": {"enum": ["m"]}}},
                           "then": {"properties": {"name": True, "o": {"type": "integer"}}}},
                          {"if": {"not": {"required": ["name"]}},
                           "then": {"properties": {"o": {"type": "integer"}}}}],
            }]},
            "b": {"type": ["object", "null"], "properties": {"c": {"type": "integer"}},
                  "required": ["c"]},
        },
        "then": {"oneOf": [{"required": ["a"]}]},
    }  # fmt: skip
    found = {item.path: item for item in flat_keys(schema)}
    assert list(found) == ["a", "a.name", "a.o", "b", "b.c"]
    assert found["a"].section
    assert found["a"].default == "needed"
    assert found["b.c"].default == "needed"
    assert found["a.o"].group == "m"
    assert found["a.name"].choices == ("m", "n")
