"""Code from outside the package: what installed packages offer, and files that a config includes.

A package names what it adds in its entry points; `registry.py` has the group of each registry:

    [project.entry-points."ptv2.methods"]
    gated_prompt = "my_package.gated_prompt:GatedPrompt"

A file (`include: [mine.py]` in a config, `--include mine.py`) adds to the registries itself:

    from ptv2_cli.registry import METHODS

    METHODS.add("gated_prompt", GatedPrompt)
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from ptv2_cli.errors import ConfigError
from ptv2_cli.files import make_folder, write_atomic
from ptv2_cli.kinds import KINDS
from ptv2_cli.registry import (
    BUILT_IN,
    ENGINES,
    HEADS,
    METHODS,
    TASKS,
    TRACKERS,
    Registry,
    Source,
    registering,
)

INERT = (TRACKERS, ENGINES)
"""Registries of things that cannot change a result."""
REGISTRIES = (KINDS, METHODS, HEADS, TASKS, *INERT)
Added = list[tuple[Registry, str, Any]]
_ADDED: dict[str, Added] = {}
"""What each file has added, by its sha256, when its code ran in this process."""


def _silent(text: str) -> None:
    """Print nothing."""


announce: Callable[[str], None] = _silent
"""Called with a line that names the file whose code runs; the command line prints it."""


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
            announce(f"runs the code of {path} (sha256 {source.sha256[:8]})")
            _run(path, code, f"ptv2_include_{source.sha256[:16]}")
            _ADDED[source.sha256] = [
                (registry, name, registry.load(name))
                for registry in REGISTRIES
                for name in registry.names()
                if registry.source(name) == source
            ]
        # Another version of this file may have replaced the entries since.
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
    except (Exception, SystemExit) as error:
        raise _failed(path, error) from error


def require_below(paths: Iterable[str], folder: Path, where: str) -> None:
    """Check that the files which a config includes lie below its folder.

    A downloaded config can then only run code that came with it.

    Raises:
        ConfigError: one does not; `--include` on the command line takes any file.
    """
    for text in paths:
        path = Path(text).resolve()
        if not path.is_relative_to(folder.resolve()):
            what = f"include names {text}, which is not below the config's folder: it is not run"
            raise ConfigError.at(where, what, f"if you trust the file, type --include {text}")


def sources(included: Iterable[Source], names: Iterable[tuple[Registry, str]]) -> list[Source]:
    """The sources of outside code that may change a run's result.

    Args:
        included: the files of `include`. One that only adds trackers or engines does not
            count.
        names: what the config names, with the registry of each.
    """
    files = (source for source in included if not _is_inert(source))
    entries = (registry.source(name) for registry, name in names)
    found = {source.identity: source for source in (*files, *entries) if source != BUILT_IN}
    return [found[identity] for identity in sorted(found)]


def keep_copies(paths: Iterable[str], folder: Path) -> list[str]:
    """Copy included files into a run's folder, so that the run keeps working without them.

    Returns the names of the copies, relative to the folder's parent. A file that lies in the
    folder already is not copied.
    """
    names: list[str] = []
    for number, path in enumerate(map(Path, paths)):
        taken = any(Path(name).name == path.name for name in names)
        copy = folder / (f"{number}-{path.name}" if taken else path.name)
        if path.resolve() != copy.resolve():
            make_folder(folder)
            write_atomic(copy, path.read_bytes())
        names.append(f"{folder.name}/{copy.name}")
    return names


def _is_inert(source: Source) -> bool:
    added = _ADDED[source.sha256]
    return bool(added) and all(registry in INERT for registry, _, _ in added)


def _failed(path: Path, error: BaseException) -> ConfigError:
    """The error of an included file, with its own line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if Path(frame.filename) == path]  # fmt: skip
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    line = line or (frames[-1].lineno if frames else None)
    where = f"{path}:{line}" if line else str(path)
    what = f"the included file fails: {type(error).__name__}: {error}"
    return ConfigError.at(where, what, f"see all of it with: python {path}")
