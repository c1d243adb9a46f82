"""Keys fixed on the command line (`--set train.lr=1e-2`, `--unset train.lr`) or in Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptv2_cli.config import merge
from ptv2_cli.config.origins import Origin, Origins, dotted
from ptv2_cli.config.yaml import MAX_DEPTH, Document, from_python, parse_value, unusable
from ptv2_cli.errors import ConfigError

INCLUDE = "--include"
"""The flag whose files are included beside those of the config."""
FLAGS = {
    "prompt_len": "--prompt-len",
    "train.lr": "--lr",
    "train.seed": "--seed",
    "train.epochs": "--epochs",
    "train.batch_size": "--batch-size",
}
"""Keys that have a flag on the command line, and in Python a keyword of the same name."""
SHORTCUTS = {flag: key for key, flag in FLAGS.items()}
KEYWORDS = {flag[2:].replace("-", "_"): key for key, flag in FLAGS.items()}


@dataclass(frozen=True)
class Override:
    """One key fixed outside the config; `origin` is what messages call it."""

    path: tuple[str, ...]
    value: Any
    origin: str
    unset: bool = False


def parse_set(text: str, flag: str | None = None) -> Override:
    """`train.lr=1e-2` as an override, typed as in YAML; `flag` is a shortcut such as `--lr`.

    Raises:
        ConfigError: there is no `=`, no key or no value, or the value is broken flow YAML.
    """
    key, equals, value = text.partition("=")
    origin = flag or f"--set {key.strip()}"
    if not equals:
        what = f"{text!r} has no = between key and value"
        raise ConfigError.at("--set", what, f"type --set {text or 'train.lr'}=VALUE")
    path = parse_key(key, "--set", f"--set {text}")
    if not value.strip():
        hint = f"type --unset {dotted(path)} for its default, or --set {dotted(path)}=null"
        raise ConfigError.at(origin, f"{dotted(path)} has no value", hint)
    return Override(path, parse_value(value, origin), origin)


def override_of(key: str, value: Any, origin: str) -> Override:
    """A key that Python fixes to a value, such as `train.lr` to 1e-2.

    Raises:
        ConfigError: not a dotted key, or a value that no config can hold.
    """
    return Override(parse_key(key, origin), from_python(value, origin), origin)


def parse_unset(text: str) -> Override:
    """`train.lr` as an override that returns the key to its default.

    Raises:
        ConfigError: not a dotted key.
    """
    path = parse_key(text, "--unset", f"--unset {text}")
    return Override(path, None, f"--unset {text}", unset=True)


def parse_include(path: Path) -> Override:
    """A file of `--include` as an override that adds to the config's own."""
    return Override(("include",), [str(path)], INCLUDE)


def applied(document: Document, overrides: Sequence[Override]) -> Document:
    """The document with all overrides: names first, then the others in their order.

    So `--set method.layers=last:8 --set method=ptuning_v2` keeps both.

    Raises:
        ConfigError: `extends` is set.
    """
    for override in sorted(overrides, key=lambda item: not _sets_name(item)):
        if override.path == ("extends",):
            hint = "use that file instead of this one, or write extends: into the file"
            raise ConfigError.at(override.origin, "extends can only be written in a file", hint)
        if override.origin == INCLUDE:
            given = document.data.get("include") or []
            override = replace(override, value=[*given, *override.value])
        if override.unset:
            document = merge.without(document, override.path)
        else:
            document = merge.merged(document, _as_document(override, document.origins.file))
    return document


def _sets_name(override: Override) -> bool:
    section, *rest = override.path
    return section in merge.NAMED and rest in ([], ["name"])


def _as_document(override: Override, file: str) -> Document:
    value = override.value
    for part in reversed(override.path):
        value = {part: value}
    origin = Origin(override.origin)
    entries = {override.path + tail: origin for tail in _tails(override.value)}
    document = merge.normalised(Document(value, Origins(file, {**entries, override.path: origin})))
    return merge.anchored(document, Path.cwd())


def _tails(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Key paths of all that lies inside a value."""
    items = value.items() if isinstance(value, dict) else ()
    for key, inner in items:
        yield (key,)
        yield from ((key, *tail) for tail in _tails(inner))


def parse_key(text: str, where: str, shown: str = "") -> tuple[str, ...]:
    """`train.lr` as a path; messages call the argument `where` and `shown`.

    Raises:
        ConfigError: not words joined by dots.
    """
    parts = tuple(part.strip() for part in text.split("."))
    words = all(part and not any(sign.isspace() for sign in part) for part in parts)
    if not words or len(parts) > MAX_DEPTH or unusable(text):
        hint = f"keys are words joined by dots, such as {where} train.lr"
        raise ConfigError.at(where, f"{shown or text!r} does not start with a key", hint)
    return parts
