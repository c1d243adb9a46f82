"""Every key that a config accepts is read somewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from transformers import GenerationConfig

import ptv2_cli
from ptv2_cli.config.generate import GenerateSection
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.config.suggestions import submodel
from ptv2_cli.errors import ConfigError
from ptv2_cli.registry import METHODS
from ptv2_cli.tasks.catalog import task_class, task_names

PACKAGE = Path(ptv2_cli.__file__).parent
OF_COMMANDS = {"extends"}
"""Read by what loads a file, as a key of the mapping; and refused."""


def keys(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        below = submodel(field.annotation)
        yield f"{before}{name}"
        if below is not None:
            yield from keys(below, f"{before}{name}.")


def every_key() -> dict[str, None]:
    found = dict.fromkeys(keys(RunConfig))
    for name in METHODS.names():
        found |= dict.fromkeys(keys(METHODS.load(name), "method."))
    for name in task_names():
        found |= dict.fromkeys(keys(task_class(name).options_model, "task."))
    return found


@cache
def read_names() -> frozenset[str]:
    """Attributes that the package reads, and names that it reads by `getattr` or as a key."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
                found |= {str(getattr(word, "value", "")) for word in node.args[1:2]}
            if isinstance(node, ast.Subscript):
                found.add(str(getattr(node.slice, "value", "")))
    return frozenset(found)


PASSED_ON = {f"generate.{name}" for name in GenerateSection.model_fields}
"""Keys that transformers reads: the section is passed on as a whole."""


@pytest.mark.parametrize("key", every_key())
def test_a_key_is_read(key: str) -> None:
    if key in PASSED_ON and key != "generate.seed":
        assert hasattr(GenerationConfig(), key.rpartition(".")[2])
        return
    assert key in OF_COMMANDS or key.rpartition(".")[2] in read_names()


@pytest.mark.parametrize("value", ["{a: 1}", "[wandbb]", "wandbb", "{}", "false", "[1]"])
def test_a_tracker_that_nobody_has_is_refused(load: Any, value: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(f"track: {value}\n")
    assert all(problem.where.endswith(":5") for problem in error.value.problems)
    if "wandbb" in value:
        hint = "did you mean 'wandb'? the trackers are tensorboard, mlflow, trackio, wandb"
        assert error.value.problems[0].hint == hint


@pytest.mark.parametrize("value", ["null", "[]"])
def test_no_track_is_accepted(load: Any, value: str) -> None:
    assert load(f"track: {value}\n").config == load().config
