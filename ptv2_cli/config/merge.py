"""One config on top of another: `extends`, and overrides from the command line."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptv2_cli.config.origins import KeyPath, Origins
from ptv2_cli.config.yaml import Document
from ptv2_cli.errors import ConfigError
from ptv2_cli.registry import HEADS, METHODS, Registry

NAMED = ("method", "backbone", "task", "head")
"""Sections that may be only a name."""
TASK_PATHS = ("data", "train", "validation", "test")
"""Keys of `task:` that name a folder or a file."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def normalised(document: Document) -> Document:
    """The document with bare names written out: `method: x` as `method: {name: x}`."""
    data = dict(document.data)
    for section in NAMED:
        value = data.get(section)
        if value is not None and not isinstance(value, dict | list):
            data[section] = {"name": value}
    if isinstance(data.get("include"), str):
        data["include"] = [data["include"]]
    if "tasks" not in data:
        return Document(data, document.origins)
    return _several(data, document.origins)


def _several(data: dict[str, Any], origins: Origins) -> Document:
    """`tasks: [A, B]` as `task: {name: multi, tasks: [...]}`.

    Raises:
        ConfigError: `task` is given too.
    """
    if "task" in data:
        hint = "write all of them into tasks, or keep only task"
        raise ConfigError.at(origins.where("tasks"), "tasks and task cannot both be given", hint)
    tasks = data.pop("tasks")
    if isinstance(tasks, list):
        tasks = [one if isinstance(one, dict) else {"name": one} for one in tasks]
    data["task"] = {"name": "multi", "tasks": tasks}
    moved = {
        ("task", *path): origin
        for path, origin in origins.entries.items()
        if path[:1] == ("tasks",)
    }
    at = origins.find(("tasks",))
    own = Origins(origins.file, {**origins.entries, **moved, ("task",): at, ("task", "name"): at})
    own.forget(("tasks",))
    return Document(data, own)


def anchored(document: Document, base: Path) -> Document:
    """The document with its relative paths made absolute, seen from the folder `base`.

    `include`, `task.data`, the files of its splits, `retention.text` and `method.init.run` are
    always paths. `backbone.name` is one if it begins with `.` or `~`, ends with `.gguf`, or holds a
    separator and exists. `package:NAME/FOLDER` stays as it is.
    """
    data = copy.deepcopy(document.data)
    backbone, task, method = (_mapping(data, name) for name in ("backbone", "task", "method"))
    several = task.get("tasks")
    parts = several if isinstance(several, list) else []
    if _looks_like_path(_text(backbone, "name"), base):
        backbone["name"] = _absolute(_text(backbone, "name"), base)
    for each in (task, *(part for part in parts if isinstance(part, dict))):
        for key in TASK_PATHS:
            if _is_local(_text(each, key)):
                each[key] = _absolute(_text(each, key), base)
    if isinstance(data.get("include"), list):
        data["include"] = [
            _absolute(name, base) if isinstance(name, str) else name for name in data["include"]
        ]
    retention = _mapping(data, "retention")
    if _is_local(_text(retention, "text")):
        retention["text"] = _absolute(_text(retention, "text"), base)
    init = _mapping(method, "init")
    if _is_local(_text(init, "run")):
        init["run"] = _absolute(_text(init, "run"), base)
    return Document(data, document.origins)


def merged(parent: Document, child: Document) -> Document:
    """`child` on top of `parent`: mappings merge, lists and scalars replace.

    A section that names another thing than the parent's starts empty: the parent's options
    belong to the parent's method, backbone, task or head. Both documents are normalised.
    """
    data = copy.deepcopy(parent.data)
    origins = Origins(child.origins.file, dict(parent.origins.entries))
    for section in NAMED:
        old, new = _mapping(data, section), _mapping(child.data, section)
        if {"name"} <= old.keys() & new.keys() and not _same(section, old["name"], new["name"]):
            data[section] = {}
            origins.forget((section,))
    _overlay(data, origins, child.data, child.origins, ())
    return Document(data, origins)


def without(document: Document, path: KeyPath) -> Document:
    """The document without the key `path`, if it has it."""
    data = copy.deepcopy(document.data)
    holder: Any = data
    for part in path[:-1]:
        holder = holder.get(part) if isinstance(holder, dict) else None
    if isinstance(holder, dict) and path[-1] in holder:
        del holder[path[-1]]
        document.origins.forget(path)
    return Document(data, document.origins)


def _overlay(
    data: dict[str, Any], origins: Origins, new: Mapping[str, Any], source: Origins, path: KeyPath
) -> None:
    for key, value in new.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            if here in source.entries:
                origins.entries[here] = source.entries[here]
            _overlay(data[key], origins, value, source, here)
        else:
            origins.forget(here)
            origins.take(here, source)
            data[key] = copy.deepcopy(value)


def _same(section: str, one: Any, other: Any) -> bool:
    registry = {"method": METHODS, "head": HEADS}.get(section)
    return _canonical(registry, one) == _canonical(registry, other)


def _canonical(registry: Registry | None, name: Any) -> str:
    text = str(getattr(name, "source", name))
    try:
        return registry.canonical(text) if registry else text
    except ConfigError:
        return text


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else str(getattr(value, "source", ""))


def _is_local(text: str) -> bool:
    return bool(text) and not _SCHEME.match(text)


def _looks_like_path(text: str, base: Path) -> bool:
    if not _is_local(text):
        return False
    if text.startswith((".", "~", "/")) or Path(text).is_absolute():
        return True
    if text.lower().endswith(".gguf"):
        return True
    try:
        return ("/" in text or os.sep in text) and (base / text).exists()
    except OSError:  # a name too long for the file system is no path
        return False


def expanded(text: str) -> Path:
    """The path `text` with `~` put in full; `~NAME` of an unknown user stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _absolute(text: str, base: Path) -> str:
    path = base / expanded(text)
    try:
        return str(path.resolve())
    except (OSError, RuntimeError):  # a circle of links: whoever opens it says so
        return str(path.absolute())
