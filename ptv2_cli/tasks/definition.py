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
SEVERAL = "multi"
"""What `tasks:` of a config becomes."""
SHAPES = {
    "classification": "ptv2_cli.tasks.classify:Classification",
    "choice": "ptv2_cli.tasks.choice:Choice",
    "templated": "ptv2_cli.tasks.templated:Templated",
    "grouped": "ptv2_cli.tasks.grouped:Grouped",
    "cloze": "ptv2_cli.tasks.cloze:Cloze",
    "tagging": "ptv2_cli.tasks.tag:Tagging",
    "semantic_roles": "ptv2_cli.tasks.roles:SemanticRoles",
    "question_answering": "ptv2_cli.tasks.span:QuestionAnswering",
    "own_classification": "ptv2_cli.tasks.own_classify:OwnClassification",
    "own_regression": "ptv2_cli.tasks.regress:Regression",
    "own_choice": "ptv2_cli.tasks.own_choice:OwnChoice",
    "own_tagging": "ptv2_cli.tasks.own_tag:OwnTagging",
    "multi": "ptv2_cli.tasks.multi:MultiTask",
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


class JoinerSection(Section):
    """A word after the text that another column tells: `because` where COPA asks for a cause."""

    column: str
    words: dict[str, str]
    """Value of the column -> the word."""


class PlaceSection(Section):
    """Where something stands in a text: a word, or characters [start, end)."""

    text: str
    """The column of the text."""
    start: str
    """The column of the word's index, from 0; with `end`, of the first character's."""
    end: str | None = None
    """The column of the index after the last character."""


class VerbalizerSection(Section):
    """The words and the template that a language model's own head answers with."""

    template: str
    words: dict[str, str]
    """Label -> the word that stands for it."""


class Definition(Section):
    """One task of a known shape."""

    shape: Literal[
        "classification",
        "choice",
        "templated",
        "grouped",
        "cloze",
        "tagging",
        "semantic_roles",
        "question_answering",
        "own_classification",
        "own_regression",
        "own_choice",
        "own_tagging",
        "own_question_answering",
        "multi",
    ]
    version: int
    """Raised whenever the same data would score differently."""
    text: tuple[str, ...] = Field(strict=False)
    choices: tuple[str, ...] = Field(default=(), strict=False)
    """Choice: the columns of the choices in order, or the one that lists them."""
    joiner: JoinerSection | None = None
    """Choice: what stands between the text and each choice."""
    templates: dict[str, dict[str, str]] = Field(default={})
    """Ways to write the input by name, the default first: input column -> its text, in which
    `{column}` is a text column."""
    nested: str | None = None
    """The column of an object whose values are columns of the row."""
    places: tuple[PlaceSection, ...] = Field(default=(), strict=False)
    """Indices that rows may carry, which must be ones of their texts."""
    label: str
    labels: tuple[str, ...] = Field(default=(), strict=False)
    values: dict[str, str] = Field(default={})
    """Label names of the official files -> ours, where they differ."""
    metrics: tuple[str, ...] = Field(strict=False)
    metric: str
    report: tuple[SplitName, ...] = Field(strict=False)
    max_len: int | None
    truncation: Truncation = "longest_first"
    layout: Literal["conll", "entities_2012", "roles_2005", "roles_2012"] = "conll"
    """Tagging: what the columns of its files are; see `readers.COLUMNS`."""
    roles: str | None = None
    """Semantic roles: the pattern of a role's name."""
    role_names: str = ""
    """Semantic roles: the same in words."""
    no_answer: bool = False
    """Question answering: some questions have no answer."""
    hub: HubSection | None = None
    verbalizer: VerbalizerSection | None = None
    """What `head: verbalizer` uses unless the config says otherwise."""


def task_names() -> list[str]:
    """Names of all tasks: paths of the YAML files below `definitions/`, sorted."""
    found = FOLDER.glob("*/**/*.yaml")
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in found)


@cache
def load_definition(name: str) -> Definition:
    """The definition of a task.

    Raises:
        ConfigError: there is no such task; the message suggests the nearest name.
    """
    names = task_names()
    if name not in {*names, SEVERAL}:
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
