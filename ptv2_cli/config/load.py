"""From a YAML file, the files it extends and the command line's overrides to a RunConfig."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ptv2_cli import plugins
from ptv2_cli.config import merge
from ptv2_cli.config.diagnostics import (
    foreign_problems,
    known_keys,
    ordered,
    problems_from,
    unknown_unset,
    unset_problems,
)
from ptv2_cli.config.origins import Origins
from ptv2_cli.config.overrides import Override, applied, parse_set, parse_unset
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.config.yaml import Document, from_python, read_yaml
from ptv2_cli.errors import ConfigError, Problem
from ptv2_cli.registry import Source

__all__ = ["ConfigSource", "LoadedConfig", "Override", "load_config", "parse_set", "parse_unset"]
_M = TypeVar("_M", bound=BaseModel)
ConfigSource = Path | Mapping[str, Any] | RunConfig
"""A YAML file or the folder of a run; a mapping with the same keys; or a config as an object."""
IN_PYTHON = Path("config")
"""What a config that was not read from a file is called, in messages and in a run's name."""
MAX_FILES = 30
"""Most config files that may build on each other."""


@dataclass(frozen=True)
class LoadedConfig:
    """A config, the merged mapping it was read from, and where each key was written."""

    config: RunConfig
    raw: Mapping[str, Any]
    origins: Origins
    path: Path
    unset: tuple[Override, ...] = ()
    included: tuple[Source, ...] = ()
    """The files of `include`, whose code has run."""

    def where(self, *path: str | int) -> str:
        """`file:line` or `--set key` of a key, of its nearest parent, or the file."""
        return self.origins.where(*path)


Also = Callable[[Mapping[str, Any], Origins], Iterable[Problem]]
"""Finds problems in a merged mapping that this layer cannot know."""


def load_config(
    source: ConfigSource, overrides: Sequence[Override] = (), also: Also | None = None
) -> LoadedConfig:
    """Read a config, or a run directory's resolved config, with everything it extends.

    Args:
        source: the file, the folder of a run, or the config itself, whose relative paths are
            relative to the working folder.
        overrides: what the command line says.
        also: called only when there are problems, so that all of them are reported together.

    Raises:
        ConfigError: with every problem that the files and the overrides have.
    """
    if isinstance(source, Path):
        path = _existing(source)
        document = _chain(read_yaml(path), path.parent, (path,))
    else:
        path = IN_PYTHON
        document = _chain(_in_python(source), Path(), ())
    document = applied(document, overrides)
    document.data.pop("extends", None)
    included = tuple(plugins.include(Path(name)) for name in _included(document))
    unset = tuple(override for override in overrides if override.unset)
    problems = [*foreign_problems(document), *unset_problems(unset)]
    try:
        config = RunConfig.model_validate(document.data)
    except ValidationError as error:
        problems += problems_from(error, document.origins, data=document.data)
    if problems:
        problems += also(document.data, document.origins) if also else []
        raise ConfigError(*ordered(problems))
    return LoadedConfig(config, document.data, document.origins, path, unset, included)


def options_from(
    model: type[_M], options: Mapping[str, Any], loaded: LoadedConfig, section: str
) -> tuple[_M | None, list[Problem]]:
    """Parse the open options of a section with the options model of what it names.

    Derive `model` from `schema.Section`. Returns the options, or None and every problem they
    have, keys that `--unset` misspelled included; raises nothing.
    """
    known = tuple(dict.fromkeys((*model.model_fields, *known_keys((section,)))))
    problems = [
        unknown_unset(override, known, (section,))
        for override in loaded.unset
        if override.path[0] == section and override.path[1:2] and override.path[1] not in known
    ]
    try:
        parsed = model.model_validate(dict(options))
    except ValidationError as error:
        invalid = problems_from(error, loaded.origins, (section,), model=model, data=options)
        return None, [*invalid, *problems]
    return (None if problems else parsed), problems


def _included(document: Document) -> list[str]:
    """The files of `include`; a value of another type is reported with the config's problems."""
    names = document.data.get("include")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _existing(path: Path) -> Path:
    path = merge.expanded(str(path))
    if path.is_dir():
        if (path / "config.yaml").is_file():
            return path / "config.yaml"
        raise ConfigError.at(str(path), "is a folder without a config.yaml", _others(path / "x"))
    if not path.exists():
        raise ConfigError.at(str(path), "there is no such config file", _others(path))
    return path


def _others(path: Path) -> str:
    """A hint for a file that does not exist: the nearest name, or what there is."""
    names = sorted(file.name for file in path.parent.glob("*.y*ml")) if path.name else []
    near = difflib.get_close_matches(path.name, names, n=1)
    if near:
        return f"did you mean {path.parent / near[0]}?"
    listing = "ptv2 list configs shows the recipes that come with ptv2"
    if not names:
        return listing
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"{path.parent} has {shown}; {listing}"


def _in_python(source: Mapping[str, Any] | RunConfig) -> Document:
    """The document of a config that does not come from a file.

    Raises:
        ConfigError: it holds a value that no config can hold.
    """
    data = source.model_dump(mode="json") if isinstance(source, RunConfig) else source
    return Document(from_python(data, str(IN_PYTHON)), Origins(str(IN_PYTHON)))


def _chain(document: Document, folder: Path, seen: tuple[Path, ...]) -> Document:
    """A document on top of those it extends.

    Args:
        document: of one file, or of a config in Python.
        folder: the base of its relative paths.
        seen: the files that led to it, with its own file last.
    """
    own = merge.anchored(merge.normalised(document), folder.absolute())
    if seen:  # Python code that gives a config may include what it likes
        plugins.require_below(_included(own), folder.absolute(), own.origins.where("include"))
    target = own.data.get("extends")
    if target is None:
        return own
    where = own.origins.where("extends")
    if not isinstance(target, str) or not target:
        hint = "write extends: other.yaml"
        raise ConfigError.at(where, "extends must be the name of one file", hint)
    parent = folder / merge.expanded(target)
    try:
        there = parent.is_file()
    except OSError:  # a name too long for the file system
        there = False
    if not there:
        what = f"extends {target}, but there is no file {parent}"
        raise ConfigError.at(where, what, _others(parent))
    if any(parent.samefile(file) for file in seen):
        circle = " -> ".join(str(file) for file in (*seen, parent))
        raise ConfigError.at(where, f"extends runs in a circle: {circle}", "delete one extends")
    if len(seen) == MAX_FILES:
        what = f"extends one file too many: at most {MAX_FILES} may build on each other"
        raise ConfigError.at(where, what, f"write the keys of {seen[0]} into fewer files")
    return merge.merged(_chain(read_yaml(parent), parent.parent, (*seen, parent)), own)
