"""The config as JSON Schema (draft 7, which editors' YAML support reads best).

What pydantic says of RunConfig, with two things it cannot know: a section may be its bare name,
and the keys of `method:` and `task:` depend on what they name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from ptv2_cli.config.merge import NAMED
from ptv2_cli.config.schema import RunConfig, TaskSection
from ptv2_cli.registry import METHODS
from ptv2_cli.tasks.catalog import task_class, task_names

DRAFT = "http://json-schema.org/draft-07/schema#"

Schema = dict[str, Any]


def config_schema() -> Schema:
    """The schema of a whole config; every key with its description and default."""
    whole = plain_schema(RunConfig)
    properties = whole["properties"]
    properties["method"] = _method(properties["method"])
    properties["task"] = _task(properties["task"])
    several = {
        "description": "instead of task: several of one kind that share a prompt",
        "type": "array",
        "items": {"$ref": "#/properties/task"},
        "minItems": 2,
    }
    whole["properties"] = properties = _after(properties, "task", {"tasks": several})
    for section in NAMED:
        properties[section] = _or_its_name(properties[section])
    properties["retention"] = _or_switched(properties["retention"])
    whole.pop("required")
    whole |= {
        "$schema": DRAFT,
        "title": "A config of ptv2",
        # Another file may say what this one leaves out.
        "if": {"not": {"required": ["extends"]}},
        "then": {
            "oneOf": [
                {"required": ["method", "backbone", "task"]},
                {"required": ["method", "backbone", "tasks"]},
            ]
        },
    }
    return whole


def _after(properties: Schema, name: str, added: Schema) -> Schema:
    """The properties with others after one of them."""
    place = list(properties).index(name) + 1
    items = list(properties.items())
    return dict([*items[:place], *added.items(), *items[place:]])


def schema_text(schema: Schema) -> str:
    """The schema as docs/schema.json and `ptv2 schema` write it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def method_options() -> dict[str, Schema]:
    """The options of every method, by its name."""
    return {name: _options(METHODS.load(name)) for name in METHODS.names()}


def task_options() -> dict[type[BaseModel], list[str]]:
    """Every options model of a task shape, with the tasks that it serves."""
    models: dict[type[BaseModel], list[str]] = {}
    for name in task_names():
        models.setdefault(task_class(name).options_model, []).append(name)
    return models


def _method(section: Schema) -> Schema:
    options = method_options()
    spelled: dict[str, list[str]] = {name: [] for name in options}
    for word in METHODS.spellings():
        spelled[METHODS.canonical(word)].append(word)
    section["properties"]["name"]["enumDescriptions"] = [
        _first_line(METHODS.load(word)) for word in METHODS.spellings()
    ]
    cases = [(spelled[name], options[name]) for name in options]
    return _by_name(section, cases)


def _task(section: Schema) -> Schema:
    section["properties"]["name"]["enum"] = task_names()
    section["properties"]["name"].pop("type", None)
    cases = [(names, _options(model)) for model, names in task_options().items()]
    return _by_name(section, cases)


def _by_name(section: Schema, cases: Iterable[tuple[list[str], Schema]]) -> Schema:
    """The open section with the keys that each name brings; without a name, those of any."""
    own: Schema = section["properties"]
    every: Schema = {}
    conditions: list[Schema] = []
    for names, options in cases:
        given = {"properties": {"name": {"enum": names}}, "required": ["name"]}
        conditions.append({"if": given, "then": _closed({**dict.fromkeys(own, True), **options})})
        for key, value in options.items():
            every.setdefault(key, []).append(value)
    merged = {key: _any_of(variants) for key, variants in every.items()}
    nameless = {"not": {"required": ["name"]}}
    conditions.append({"if": nameless, "then": _closed({**merged, **dict.fromkeys(own, True)})})
    section = {key: value for key, value in section.items() if key != "additionalProperties"}
    section.pop("required", None)  # beside `extends`, the other file gives the name
    return {**section, "allOf": conditions}


def _closed(properties: Mapping[str, Any]) -> Schema:
    return {"properties": dict(properties), "additionalProperties": False}


def _any_of(variants: list[Schema]) -> Schema:
    first = variants[0]
    if all(other == first for other in variants):
        return first
    meanings = dict.fromkeys(node.get("description", "") for node in variants)
    return {"description": "; or: ".join(meanings), "anyOf": variants}


def _or_its_name(section: Schema) -> Schema:
    """The section, or the bare value of its `name`."""
    description = section.pop("description", "")
    name = {key: value for key, value in section["properties"]["name"].items() if key != "default"}
    return {"description": description, "anyOf": [name, section]}


def _or_switched(section: Schema) -> Schema:
    """The section, or true for its defaults, or false for none."""
    description = section.pop("description", "")
    return {"description": description, "anyOf": [{"type": "boolean"}, section]}


def _options(model: type[BaseModel]) -> Schema:
    declared = TaskSection.model_fields
    properties: Schema = plain_schema(model).get("properties", {})
    return {key: value for key, value in properties.items() if key not in declared}


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0]


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
