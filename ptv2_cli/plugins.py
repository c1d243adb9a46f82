"""Code from outside the package: what installed packages offer, and files that a config includes.

A package names what it adds in its entry points, in the groups of GROUPS:

    [project.entry-points."ptv2.methods"]
    gated_prompt = "my_package.gated_prompt:GatedPrompt"

A file (`include: [mine.py]` in a config, `--include mine.py`) is Python that adds by itself:

    from ptv2_cli.registry import METHODS

    METHODS.add("gated_prompt", GatedPrompt)
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ptv2_cli.errors import ConfigError
from ptv2_cli.kinds import KINDS
from ptv2_cli.registry import HEADS, METHODS, TASKS, TRACKERS, Registry, Source, registering

REGISTRIES = (KINDS, METHODS, HEADS, TASKS, TRACKERS)
Added = list[tuple[Registry, str, Any]]
_ADDED: dict[str, Added] = {}
"""What each file has added, by its sha256, when its code ran in this process."""


def include(path: Path) -> Source:
    """Run the code of a file, once in a process while its content stays the same.

    Raises:
        ConfigError: the file cannot be read, its code fails, or it adds a name that is taken.
    """
    try:
        code = path.read_bytes()
    except OSError as error:
        what = f"cannot be included: {error.strerror or error}"
        raise ConfigError.at(str(path), what, "include names Python files") from None
    source = Source(path.name, sha256=hashlib.sha256(code).hexdigest())
    with registering(source):
        if source.sha256 not in _ADDED:
            _run(path, code, f"ptv2_include_{source.sha256[:16]}")
            _ADDED[source.sha256] = [
                (registry, name, registry.load(name))
                for registry in REGISTRIES
                for name in registry.names()
                if registry.source(name) == source
            ]
        # Another content of this file may have been included since: this one counts now.
        for registry, name, entry in _ADDED[source.sha256]:
            registry.add(name, entry)
    return source


def _run(path: Path, code: bytes, name: str) -> None:
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        exec(compile(code, path, "exec"), module.__dict__)
    except ConfigError:
        raise
    except Exception as error:
        raise _failed(path, error) from error


def require_below(paths: Iterable[str], folder: Path, where: str) -> None:
    """See that files which a config includes lie below its folder.

    Who takes a config from somewhere else, without looking at what lies around it, runs no code
    that was there before.

    Raises:
        ConfigError: one does not; `--include` on the command line takes any file.
    """
    for text in paths:
        path = Path(text).resolve()
        if not path.is_relative_to(folder.resolve()):
            what = f"include names {text}, which is not below the config's folder: it is not run"
            raise ConfigError.at(where, what, f"if you trust the file, type --include {text}")


def identities(sources: Iterable[Source]) -> Mapping[str, str]:
    """What a fingerprint says of plug-ins: packages by version, files by content."""
    names = sorted({source.identity for source in sources})
    return {f"plugin.{number}": name for number, name in enumerate(names)}


def _failed(path: Path, error: Exception) -> ConfigError:
    """The error of an included file, with its own line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if Path(frame.filename) == path]  # fmt: skip
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    line = line or (frames[-1].lineno if frames else None)
    where = f"{path}:{line}" if line else str(path)
    what = f"the included file fails: {type(error).__name__}: {error}"
    return ConfigError.at(where, what, f"see all of it with: python {path}")
