"""Shell completion: names and keys, read from files so that torch is never imported."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ptv2_cli.setup.keys import Key, flat_keys

Completions = list[tuple[str, str]]
"""Possible values, each with a short help."""


def keys(incomplete: str) -> Completions:
    """Keys for `--unset`: `train.l` gives `train.lr`."""
    return [(key.path, key.meaning) for key in _keys() if key.path.startswith(incomplete)]


def settings(incomplete: str) -> Completions:
    """`KEY=` for `--set` and `--grid`; a whole key also gives its values, such as method=..."""
    path, equals, _ = incomplete.partition("=")
    exact = [key for key in _keys() if key.path == path]
    found = [(f"{key.path}={word}", key.meaning) for key in exact for word in key.choices]
    if not equals:
        others = [key for key in _keys() if key.path.startswith(path) and _settable(key)]
        found += [(f"{key.path}=", key.meaning) for key in others]
    return _offered(found, incomplete)


def splits(incomplete: str) -> Completions:
    """Names of splits."""
    return _offered([(name, "") for name in ("train", "validation", "test")], incomplete)


def runs(incomplete: str) -> Completions:
    """Finished runs of runs/ or of the folder typed so far, the newest first; sweeps; folders."""
    home = "runs/"
    before = home if home.startswith(incomplete) else incomplete[: incomplete.rfind("/") + 1]
    try:
        below = [path for path in Path(before or ".").iterdir() if path.is_dir()]
        done = [path for path in below if (path / "metrics.json").is_file()]
        done.sort(key=lambda path: (path / "metrics.json").stat().st_mtime, reverse=True)
    except OSError:
        return []
    sweeps = sorted(path for path in below if (path / "plan.json").is_file())
    others = sorted(
        path for path in below if path not in sweeps and not (path / "config.yaml").exists()
    )
    names = [*(path.name for path in (*done, *sweeps)), *(f"{path.name}/" for path in others)]
    # Names with control characters could run something in the shell.
    plain = [name for name in names if name.isprintable() and not name.startswith(".")]
    return _offered([(before + name, "") for name in plain], incomplete)


def configs(incomplete: str) -> Completions:
    """Names of the configs that come with ptv2."""
    from ptv2_cli.setup.packaged_files import shipped_names

    return _offered([(name, "") for name in shipped_names()], incomplete)


def _offered(found: Iterable[tuple[str, str]], incomplete: str) -> Completions:
    return [item for item in dict.fromkeys(found) if item[0].startswith(incomplete)]


def _settable(key: Key) -> bool:
    """Whether `KEY=VALUE` makes sense: a section only if its bare name is a value."""
    return not key.section or bool(key.choices) or key.path == "backbone"


@cache
def _keys() -> list[Key]:
    """All keys of docs/schema.json, each once; none if the installation lacks the file."""
    from ptv2_cli.setup.packaged_files import schema_file

    try:
        schema = json.loads(schema_file().read_text(encoding="utf-8"))
    except OSError:
        return []
    found: dict[str, Key] = {}
    for key in flat_keys(schema):
        found.setdefault(key.path, key)
    return list(found.values())
