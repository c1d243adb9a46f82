"""Tasks as data: a YAML under `definitions/` names a shape and says what its columns mean."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ptv2_cli.errors import ConfigError, Problem
from ptv2_cli.registry import TASKS
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition

FOLDER = Path(__file__).parent / "definitions"
SEVERAL = "multi"
"""What `tasks:` of a config becomes."""
SHAPES = {
    "classification": "ptv2_cli.tasks.classification:Classification",
    "choice": "ptv2_cli.tasks.choice:Choice",
    "templated": "ptv2_cli.tasks.templated:Templated",
    "grouped": "ptv2_cli.tasks.templated:Grouped",
    "cloze": "ptv2_cli.tasks.cloze:Cloze",
    "tagging": "ptv2_cli.tasks.tagging:Tagging",
    "semantic_roles": "ptv2_cli.tasks.roles:SemanticRoles",
    "question_answering": "ptv2_cli.tasks.qa:QuestionAnswering",
    "user_classification": "ptv2_cli.tasks.classification:UserClassification",
    "user_regression": "ptv2_cli.tasks.regression:Regression",
    "user_choice": "ptv2_cli.tasks.choice:UserChoice",
    "user_tagging": "ptv2_cli.tasks.tagging:UserTagging",
    "multi": "ptv2_cli.tasks.multi:MultiTask",
    "user_generation": "ptv2_cli.tasks.generation:Generation",
    "user_question_answering": "ptv2_cli.tasks.qa:UserQuestionAnswering",
}


def task_names() -> list[str]:
    """Names of all tasks: those of the YAML files below `definitions/`, and those from outside."""
    files = FOLDER.glob("*/**/*.yaml")
    names = [path.relative_to(FOLDER).with_suffix("").as_posix() for path in files]
    return sorted({*names, *TASKS.names()})


def load_definition(name: str) -> Definition:
    """The definition of a task.

    Raises:
        ConfigError: there is no such task; the message suggests the nearest name.
    """
    file = FOLDER / f"{name}.yaml"
    if name in {*task_names(), SEVERAL} and file.is_file():
        return _read(file)
    TASKS.find_installed()
    names = task_names()
    if name not in names:
        raise ConfigError.at("task.name", f"unknown task {name!r}", _hint(name, names))
    entry = TASKS.load(name)
    if isinstance(entry, Path):
        return _read(entry)
    definition: Definition = entry.definition
    return definition


@cache
def _read(path: Path) -> Definition:
    return Definition.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def task_class(name: str) -> type[Task]:
    """The class behind a task, whose `options_model` the open keys of `task:` obey.

    Raises:
        ConfigError: there is no such task.
    """
    definition = load_definition(name)
    if name in TASKS.names() and isinstance(entry := TASKS.load(name), type):
        return entry
    module, attribute = SHAPES[definition.shape].split(":")
    shape: type[Task] = getattr(import_module(module), attribute)
    return shape


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
    problems = []
    for item in error.errors():
        key = ".".join(map(str, item["loc"]))
        unknown = item["type"] == "extra_forbidden"
        what = f"unknown key {key}" if unknown else f"{key}: {item['msg']}"
        problems.append(Problem(f"task.{key}", what, hint))
    return problems


def _hint(name: str, names: list[str]) -> str:
    by_end = {known.rsplit("/", 1)[-1]: known for known in names}
    short = name.lower().rsplit("/", 1)[-1]
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    near = near or [by_end[end] for end in difflib.get_close_matches(short, by_end, n=1)]
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}ptv2 list tasks shows all: {', '.join(names)}"
