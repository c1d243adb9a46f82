"""The schema as a flat list of keys: for the page that shows all of them and for completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
_DEFAULT = "; default: "


@dataclass(frozen=True)
class Key:
    """One key of a config."""

    path: str
    """Dotted, as `--set` takes it."""
    type: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    """The words it may be, if they are a fixed set."""
    group: str = ""
    """The names of the methods or tasks that have this option."""
    section: bool = False
    """Whether it holds other keys."""


def flat_keys(schema: Schema) -> list[Key]:
    """Every key of `config_schema()`, sections before their keys."""
    return list(_below(schema, ""))


def _below(schema: Schema, prefix: str) -> Iterator[Key]:
    usual, *_ = schema.get("then", {}).get("oneOf", [schema])
    needed = usual.get("required", [])
    for name, node in schema["properties"].items():
        path = f"{prefix}{name}"
        body = _body(node)
        yield _key(path, node, section=body is not None, needed=name in needed)
        if body is not None:
            yield from _below(body, f"{path}.")
            for condition in body.get("allOf", []):
                yield from _options(condition, path)


def _options(condition: Schema, section: str) -> Iterator[Key]:
    """The keys that a section has with one `name`."""
    names = condition["if"].get("properties", {}).get("name", {}).get("enum", [])
    for name, node in condition["then"]["properties"].items() if names else ():
        if node is not True:
            yield _key(f"{section}.{name}", node, group=", ".join(names))


def _body(node: Schema) -> Schema | None:
    """The section that a key holds, even if it may be a bare name instead."""
    if "properties" in node:
        return node
    # A mapping of one key, such as {normal: STD}, is a value.
    bodies = [choice for choice in node.get("anyOf", []) if "properties" in choice]
    return next((body for body in bodies if "allOf" in body or len(body["properties"]) > 1), None)


def _key(
    path: str, node: Schema, *, group: str = "", section: bool = False, needed: bool = False
) -> Key:
    meaning, _, stated = node.get("description", "").partition(_DEFAULT)
    if meaning.startswith("default: "):
        meaning = stated = meaning.removeprefix("default: ")
    words = [str(word) for word in _enum(node) if word is not None]
    if "boolean" in _types(node) and "string" not in _types(node):
        words = ["true", "false"]
    default = stated or ("" if section or "default" not in node else _written(node["default"]))
    default = "needed" if needed else default
    kind = "section" if section else _type(node)
    return Key(path, kind, default, meaning, tuple(words), group, section)


def _enum(node: Schema) -> list[Any]:
    words = [*node.get("enum", []), *([node["const"]] if "const" in node else [])]
    for choice in node.get("anyOf", []):
        words += choice.get("enum", [])
    return list(dict.fromkeys(words))


def _types(node: Schema) -> list[str]:
    kind = node.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def _type(node: Schema) -> str:
    """The type in words: `whole number, 1 or more`, `one of linear, constant`."""
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        return " or ".join(str(word) for word in node["enum"] if word is not None)
    if "anyOf" in node:
        parts = [_type(choice) for choice in node["anyOf"]]
        return " or ".join(dict.fromkeys(part for part in parts if part))
    types = _types(node)
    if "string" in types:
        return "text" if "array" not in types else "text, number or list"
    if "array" in types:
        return f"list of {_type(node.get('items', {})) or 'values'}"
    if "boolean" in types:
        return "true or false"
    if "object" in types:
        properties = node.get("properties", {})
        inside = ", ".join(f"{key}: {_type(value)}" for key, value in properties.items())
        return f"{{{inside}}}" if inside else "mapping"
    number = "whole number" if "integer" in types else "number" if "number" in types else ""
    return number and ", ".join([number, *_bounds(node)])


def _bounds(node: Schema) -> Iterator[str]:
    if "minimum" in node:
        yield f"{_written(node['minimum'])} or more"
    if "exclusiveMinimum" in node and "integer" in _types(node):
        yield f"{node['exclusiveMinimum'] + 1} or more"
    elif "exclusiveMinimum" in node:
        yield f"above {_written(node['exclusiveMinimum'])}"
    if "exclusiveMaximum" in node:
        yield f"below {_written(node['exclusiveMaximum'])}"
    if "maximum" in node:
        yield f"at most {_written(node['maximum'])}"


def _written(value: Any) -> str:
    """A default as YAML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
