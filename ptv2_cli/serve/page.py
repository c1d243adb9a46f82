"""The page that describes the interface: made from its schema, with nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; font-size: 1.1rem; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid #8888; border-radius: 6px; }
td, th { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0; }
"""


def page(schema: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI schema: each path with its body, its answers and an example."""
    info = schema["info"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])} The schema: <a href='openapi.json'>openapi.json</a>.",
        "If the server has a token, send the header <code>Authorization: Bearer TOKEN</code>.</p>",
    ]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            parts += _operation(path, method.upper(), operation, schema)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )


def _operation(
    path: str, method: str, operation: Mapping[str, Any], schema: Mapping[str, Any]
) -> Iterator[str]:
    yield f"<h2><code>{method} {escape(path)}</code></h2><p>{escape(operation['summary'])}</p>"
    body = operation.get("requestBody")
    if body is not None:
        model = body["content"]["application/json"]["schema"]
        yield "<h3>Body</h3>" + _fields(model)
        yield _example(path, method, model.get("examples", [{}])[0])
    for code, answer in sorted(operation["responses"].items()):
        content = answer.get("content", {}).get("application/json", {}).get("schema", {})
        name = content.get("$ref", "").rsplit("/", 1)[-1]
        if name and code < "400":
            yield f"<h3>Answer {escape(code)}</h3>"
            yield _fields(schema["components"]["schemas"][name])
    refused = [code for code in operation["responses"] if code >= "400"]
    if refused:
        yield f"<p>Refused with {', '.join(map(escape, refused))}.</p>"


def _fields(model: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(field))}</td>"
        f"<td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in model.get("properties", {}).items()
    )
    return f"<table><tr><th>key</th><th>type</th><th>meaning</th></tr>{rows}</table>"


def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(map(_type, field["anyOf"]))
    if "$ref" in field:
        return str(field["$ref"]).rsplit("/", 1)[-1]
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    return str(field.get("type", "any"))


def _example(path: str, method: str, content: Any) -> str:
    words = (
        f"curl -X {method} http://127.0.0.1:8000{path.replace('{run}', 'NAME')} "
        f"-H 'Content-Type: application/json' -d '{json.dumps(content)}'"
    )
    return f"<pre>{escape(words)}</pre>"
