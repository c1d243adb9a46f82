"""Pydantic's JSON Schema of a model, made plain: no references, no titles, no null defaults."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
_REFERENCE = "#/$defs/"


def plain_schema(model: type[BaseModel]) -> Schema:
    """The schema of `model` with nested sections written in place.

    A section all of whose lines are commented out reads as null, so that is allowed.
    """
    raw = model.model_json_schema()
    definitions = raw.pop("$defs", {})
    plain: Schema = _plain(raw, definitions)
    plain["type"] = "object"
    return plain


def _plain(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_plain(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        named = definitions[node["$ref"].removeprefix(_REFERENCE)]
        # What the field says of itself comes before what its class says.
        beside = {key: value for key, value in node.items() if key not in {"$ref", "default"}}
        return _plain({**named, **beside}, definitions)
    kept = {
        key: _properties(value, definitions) if key == "properties" else _plain(value, definitions)
        for key, value in node.items()
        if key != "title" and not (key == "default" and value is None)
    }
    if kept.get("type") == "object" and "properties" in kept and "required" not in kept:
        kept["type"] = ["object", "null"]
    return _or_null(kept)


def _properties(properties: Schema, definitions: Schema) -> Schema:
    return {key: _plain(value, definitions) for key, value in properties.items()}


def _or_null(node: Schema) -> Schema:
    """`anyOf: [X, null]` as X whose type, and enum, holds null too."""
    choices = node.get("anyOf", [])
    others = [choice for choice in choices if choice != {"type": "null"}]
    if len(choices) != len(others) + 1 or len(others) != 1:
        return node
    (other,) = others
    joined = {**{key: value for key, value in node.items() if key != "anyOf"}}
    joined = {**other, **joined}
    if "type" in other:
        kinds = other["type"] if isinstance(other["type"], list) else [other["type"]]
        joined["type"] = [*kinds, *(["null"] if "null" not in kinds else [])]
    if "enum" in other:
        joined["enum"] = [*other["enum"], None]
    if "anyOf" in other:
        joined["anyOf"] = [*other["anyOf"], {"type": "null"}]
    return joined
