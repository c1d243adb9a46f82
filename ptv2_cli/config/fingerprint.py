"""What makes two runs the same run, and the resolved config as a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from ptv2_cli.config.origins import KeyPath, dotted
from ptv2_cli.config.yaml import Float, Int, kind_of
from ptv2_cli.errors import InputError

RESULTS_VERSION = 2
"""Raised when a change of the code changes the results of equal configs."""

IGNORED = frozenset(
    {
        "name",
        "extends",
        "include",
        "sweep",
        "track",
        "task.data",
        "task.train",
        "task.validation",
        "task.test",
        "task.delimiter",
        "task.encoding",
        "task.skip_bad",
        "backbone.name",
        "backbone.revision",
        "backbone.sha256",
        "method.init.run",
        "train.cache",
        "train.shard",
        "train.cpu_offload",
        "retention",
    }
)
"""Keys that say where things lie, what they are called or how they are read (`identities` say what
they are), where a computation is kept that gives the same however often it is done, or what is
measured on the finished run alone."""


LATER: Mapping[str, Any] = {
    "backbone.quantize": None,
    "method.sites": "all",
    "method.softmax": "shared",
    "method.gates": "none",
    "method.key_lr_factor": 1.0,
    "method.freeze_first": False,
    "task.metrics": None,
    "train.class_weights": None,
    "train.batch_tokens": None,
    "train.compile": False,
    "train.average": None,
    "generate": None,
    "head.words": None,
    "head.template": None,
    "head.train": False,
    "head.calibrate": None,
    "task.demonstrations": None,
    "task.words": None,
    "task.limit.sample": "first",
    "task.limit.seed": None,
}
"""Keys that runs of earlier versions lack, and the value that means what those runs did."""


def fingerprint(
    resolved: Mapping[str, Any],
    identities: Mapping[str, str],
    ignored: Collection[str] = (),
) -> str:
    """Eight hex digits of all that can change a run's result.

    `resolved` is the dumped RunConfig with the parsed options of its open sections. `identities`
    name by content what the config names by path: the sha256 of each split, the backbone's
    weights hash or revision, the task's version, the content of a `method.init: {run: DIR}`.
    `ignored` are further dotted keys that cannot change the result.

    Raises:
        TypeError: a value is not plain data (text, number, boolean, null, list, mapping).
        ValueError: a number is not finite.
    """
    content = {
        "config": _canonical(resolved, (), IGNORED | set(ignored) | _unchanged(resolved)),
        "identities": dict(identities),
        "results_version": RESULTS_VERSION,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise InputError.at(str(path), what, f"check it with: ls -l {path}") from error


def dump_yaml(mapping: Mapping[str, Any]) -> str:
    """A mapping as YAML that reads back equal, here and in YAML 1.1 loaders.

    Text that looks like a number, a boolean or null is quoted, tuples become lists, `1e-05` is
    written `1.0e-05`. A number that still has its source text keeps it where YAML 1.1 agrees.

    Raises:
        TypeError: a value is not plain data.
    """
    text = yaml.dump(
        _canonical(mapping, (), frozenset()),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return str(text)


def _unchanged(resolved: Mapping[str, Any]) -> set[str]:
    """The later keys that stand at the value of the runs before them."""
    # One of several tasks may say what the others do not.
    tasks = [{"task": item} for item in _value(resolved, "task.tasks") or ()]
    return {
        key
        for key, value in LATER.items()
        if all(
            _value(one, key) == value
            for one in (resolved, *(tasks if key.startswith("task.") else ()))
        )
    }


def _value(mapping: Mapping[str, Any], key: str) -> Any:
    value: Any = mapping
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _canonical(value: Any, path: KeyPath, ignored: Collection[str]) -> Any:
    """Plain dicts, lists and scalars, without the ignored keys."""
    if isinstance(value, Mapping):
        return {
            str(key): _canonical(inner, (*path, str(key)), ignored)
            for key, inner in value.items()
            if _plain_path((*path, str(key))) not in ignored
        }
    if isinstance(value, list | tuple):
        return [_canonical(inner, (*path, i), ignored) for i, inner in enumerate(value)]
    if value is None or isinstance(value, bool | Int | Float):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"{dotted(path)} is no plain data but a {type(value).__name__}")


def _plain_path(path: KeyPath) -> str:
    """A dotted key; one of several tasks counts as the task."""
    return dotted(("task", *path[3:]) if path[:2] == ("task", "tasks") else path)


class _Dumper(yaml.SafeDumper):
    """Block style without aliases, quoting what either YAML version would not read as text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Lists and mappings that stand twice are written twice."""
        return True


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    style = None if kind_of(value) == "str" else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style)


def _number(dumper: _Dumper, value: Int | Float) -> yaml.Node:
    node = dumper.represent_data(int(value) if isinstance(value, int) else float(value))
    if _agree(value):
        node.value = value.source
    return node


def _agree(value: Int | Float) -> bool:
    """Whether YAML 1.1 reads the source text as this very number."""
    try:
        read = yaml.safe_load(value.source)
    except (yaml.YAMLError, ValueError):
        return False
    return isinstance(read, int if isinstance(value, int) else float) and read == value


_Dumper.add_representer(str, _text)
_Dumper.add_multi_representer(Int, _number)
_Dumper.add_multi_representer(Float, _number)
