"""Tasks as data: a YAML under `definitions/` names a shape and says what its columns mean."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from ptv2_cli.config.schema import Section
from ptv2_cli.errors import ConfigError, Problem
from ptv2_cli.tasks.base import SplitName, Task, Truncation

FOLDER = Path(__file__).parent / "definitions"
SHAPES = {
    "classification": "ptv2_cli.tasks.classify:Classification",
    "tagging": "ptv2_cli.tasks.tag:Tagging",
    "question_answering": "ptv2_cli.tasks.span:QuestionAnswering",
    "own_classification": "ptv2_cli.tasks.own_classify:OwnClassification",
    "own_regression": "ptv2_cli.tasks.regress:Regression",
    "own_tagging": "ptv2_cli.tasks.own_tag:OwnTagging",
    "own_question_answering": "ptv2_cli.tasks.own_span:OwnQuestionAnswering",
}


class HubSection(Section):
    """Where a data set lies on the hub, and how its columns and label names map to ours."""

    repo: str
    revision: str
    folder: str
    columns: dict[str, str] = Field(default={})
    """Our column name -> theirs, where they differ."""
    values: dict[str, str] = Field(default={})
    """Their label name -> ours, where they differ."""


class Definition(Section):
    """One task of a known shape."""

    shape: Literal[
        "classification",
        "tagging",
        "question_answering",
        "own_classification",
        "own_regression",
        "own_tagging",
        "own_question_answering",
    ]
    version: int
    """Raised whenever the same data would score differently."""
    text: tuple[str, ...] = Field(strict=False)
    label: str
    labels: tuple[str, ...] = Field(default=(), strict=False)
    values: dict[str, str] = Field(default={})
    """Label names of the official files -> ours, where they differ."""
    metrics: tuple[str, ...] = Field(strict=False)
    metric: str
    report: tuple[SplitName, ...] = Field(strict=False)
    max_len: int | None
    truncation: Truncation = "longest_first"
    no_answer: bool = False
    """Question answering: some questions have no answer."""
    hub: HubSection | None = None


def task_names() -> list[str]:
    """Names of all tasks: paths of the YAML files under `definitions/`, sorted."""
    found = FOLDER.rglob("*.yaml")
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in found)


@cache
def load_definition(name: str) -> Definition:
    """The definition of a task.

    Raises:
        ConfigError: there is no such task; the message suggests the nearest name.
    """
    names = task_names()
    if name not in names:
        raise ConfigError.at("task.name", f"unknown task {name!r}", _hint(name, names))
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return Definition.model_validate(yaml.safe_load(text))


def task_class(name: str) -> type[Task]:
    """The class behind a task's shape, whose `options_model` the open keys of `task:` obey.

    Raises:
        ConfigError: there is no such task.
    """
    module, attribute = SHAPES[load_definition(name).shape].split(":")
    found: type[Task] = getattr(import_module(module), attribute)
    return found


def load_task(name: str, options: Mapping[str, Any] | None = None) -> Task:
    """Make the task `name` with the open keys of the config's `task:` section.

    Raises:
        ConfigError: unknown task, unknown option, or an option that the task cannot have.
    """
    shape = task_class(name)
    try:
        parsed = shape.options_model.model_validate(dict(options or {}))
    except ValidationError as error:
        known = ", ".join(shape.options_model.model_fields)
        raise ConfigError(*_problems(error, f"options of {name}: {known}")) from None
    return shape(name, load_definition(name), parsed)


def _problems(error: ValidationError, hint: str) -> list[Problem]:
    return [
        Problem(".".join(["task", *map(str, item["loc"])]), item["msg"], hint)
        for item in error.errors()
    ]


def _hint(name: str, names: list[str]) -> str:
    by_end = {known.rsplit("/", 1)[-1]: known for known in names}
    short = name.lower().rsplit("/", 1)[-1]
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    near = near or [by_end[end] for end in difflib.get_close_matches(short, by_end, n=1)]
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}ptv2 list tasks shows all: {', '.join(names)}"
