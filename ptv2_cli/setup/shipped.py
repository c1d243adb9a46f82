"""A config that comes with ptv2, copied for another folder and with its sections explained."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from ptv2_cli.errors import InputError
from ptv2_cli.setup import draft
from ptv2_cli.setup.packaged_files import shipped_configs

_COMMENTS = {
    "method": draft.METHOD,
    "backbone": draft.BACKBONE,
    "task": draft.TASK,
    "prompt_len": draft.LENGTH,
    "head": "hidden states to predictions",
    "train": draft.TRAIN,
    "report": "splits whose scores are given",
    "selection": "what chooses the epoch whose scores are given",
}
_KEY = re.compile(r"(\w+):")
_PATH = re.compile(r"(\b(data|train|validation|test|extends): *)([^,{}\s]+)")


def shipped_names() -> list[str]:
    """Names as `ptv2 list configs` shows them."""
    return sorted(path.stem for path in shipped_configs().glob("*.yaml"))


def copied(name: str, target: Path) -> str:
    """The text of the shipped config `name`, to stand at `target`; it says the same run.

    Raises:
        InputError: no config of that name comes with ptv2.
    """
    source = _source(name)
    lines = source.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#") and not _is_command(line)]
    title, *rest = [line.removeprefix("#").strip() for line in comments]
    text = [*draft.opening(title, target), *(f"# {line}".rstrip() for line in rest), ""]
    section, used = "", []
    for line in lines:
        key = _KEY.match(line)
        if key:
            section = key[1]
            used.append(section)
            text += [f"# {_COMMENTS[section]}"] if section in _COMMENTS else []
        if section != "name" and not line.startswith("#"):  # a run is named after its own file
            text.append(_moved(line, section, source, target))
    return "\n".join([*text, *draft.more(used)]) + "\n"


def _source(name: str) -> Path:
    names = shipped_names()
    if name in names:
        return shipped_configs() / f"{name}.yaml"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    hint = f"{guess}ptv2 list configs shows all; --data FILE is for data of yours"
    raise InputError.at("NAME", f"no config called {name!r} comes with ptv2", hint)


def _is_command(line: str) -> bool:
    text = line.removeprefix("#").strip()
    return text.startswith(("ptv2 train ", "yaml-language-server"))


def _moved(line: str, section: str, source: Path, target: Path) -> str:
    """A line with its paths as seen from the new place."""

    def seen(said: re.Match[str]) -> str:
        path = source.parent / said[3]
        return said[1] + draft.scalar(draft.path_from(target, path)) if path.exists() else said[0]

    return _PATH.sub(seen, line) if section in {"task", "extends"} else line
