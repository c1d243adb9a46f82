from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator

from ptv2_cli.config.fields import Count, Flag, Text
from ptv2_cli.config.load import LoadedConfig, options_from
from ptv2_cli.config.section import Section
from ptv2_cli.errors import Problem

Load = Callable[..., LoadedConfig]


class InitText(Section):
    text: Text


class InitRun(Section):
    run: Text


class Options(Section):
    layers: Text | None = None
    reparam: Literal["none", "mlp"] = "none"
    reparam_hidden: Count = 512
    init: Literal["normal", "zero"] | InitText | InitRun = "normal"
    widths: Annotated[list[Count], Field(min_length=2)] = Field(default=[1, 2])
    labels: list[Text] = Field(default=[])
    every: Count | Literal["epoch"] = "epoch"
    early: Flag = False
    odd: int = 1

    @field_validator("odd")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be an odd number")
        if value == 13:
            raise ValueError("brings bad luck")
        return value


BASE = "method:\n  name: ptuning_v2\n  {}\nbackbone: b\ntask: t\n"


@pytest.fixture
def parse(load: Load) -> Callable[..., tuple[Options | None, list[Problem]]]:
    def parser(line: str = "", *sets: str) -> tuple[Options | None, list[Problem]]:
        loaded = load("", *sets, base=BASE.format(line))
        return options_from(Options, loaded.config.method.options, loaded, "method")

    return parser


Parse = Callable[..., tuple[Options | None, list[Problem]]]


def test_defaults(parse: Parse) -> None:
    assert parse() == (Options(), [])


def test_texts_are_sources(parse: Parse) -> None:
    options, problems = parse("labels: [011, 1.10, true, on, 5e-3]", "method.layers=1")
    assert problems == []
    assert options is not None
    assert options.labels == ["011", "1.10", "true", "on", "5e-3"]
    assert options.layers == "1"


def test_an_argument_for_a_section_that_does_not_exist(parse: Parse) -> None:
    _, (found,) = parse("", "method.inti.text=x")
    assert (found.where, found.what) == (
        "--set method.inti.text",
        "unknown key method.inti.text",
    )
    assert found.hint == "did you mean method.init.text? type --set method.init.text=x"


@pytest.mark.parametrize("value", ["zero", "{text: a}", "{run: r}"])
def test_unions(parse: Parse, value: str) -> None:
    options, problems = parse(f"init: {value}")
    assert options is not None
    assert problems == []


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("layer: 1", "unknown key method.layer", "did you mean method.layers?"),
        (
            "lr: 1",
            "unknown key method.lr",
            "did you mean train.lr or head.lr? write train: {lr: 1}",
        ),
        ("zzz: 1", "unknown key method.zzz", "method knows these keys: layers, reparam"),
        (
            "reparam: mpl",
            'method.reparam must be one of none, mlp, not "mpl"',
            "write method: {name: ptuning_v2, reparam: mlp}",
        ),
        (
            "reparam_hidden: 0",
            "method.reparam_hidden must be 1 or more, not 0",
            "leave method.reparam_hidden out for its default (512)",
        ),
        ("widths: [1]", "method.widths must be a list of 2 or more, not a list", ""),
        ("widths: [1, 0]", "method.widths[1] must be 1 or more, not 0", ""),
        ("widths: 5", "method.widths must be a list, not 5", ""),
        ("labels: [[a]]", "method.labels[0] must be text, not a list", ""),
        (
            "init: norml",
            'method.init must be one of normal, zero or a mapping, not "norml"',
            "write method: {name: ..., init: normal}",
        ),
        ("init: {text: [a]}", "method.init.text must be text, not a list", ""),
        ("init: {txt: a}", "unknown key method.init.txt", "method.init.text"),
        (
            "every: 0",
            "method.every must be 1 or more or the word epoch, not 0",
            "(epoch)",
        ),
        (
            "every: never",
            'method.every must be a whole number or the word epoch, not the text "never"',
            "(epoch)",
        ),
        ("early: off", None, "write method: {name: ..., early: false}"),
        ("odd: 2", "method.odd must be an odd number, not 2", "(1)"),
        ("odd: 13", "method.odd: brings bad luck", "(1)"),
    ],
)
def test_messages(parse: Parse, line: str, what: str | None, hint: str) -> None:
    options, problems = parse(line)
    assert options is None
    assert [problem.where.rsplit("/", 1)[-1] for problem in problems] == ["config.yaml:3"]
    assert what is None or problems[0].what == what
    assert hint in problems[0].hint
    assert problems[0].hint


def test_all_at_once(parse: Parse) -> None:
    options, problems = parse("odd: 2", "method.layrs=1", "-method.reparm")
    assert options is None
    assert sorted(problem.where for problem in problems)[:2] == [
        "--set method.layrs",
        "--unset method.reparm",
    ]
    assert len(problems) == 3


def test_unset_is_checked_against_the_options(parse: Parse) -> None:
    assert parse("", "-method.layers") == (Options(), [])
    options, problems = parse("", "-method.layer")
    assert options is None
    assert problems[0].where == "--unset method.layer"
    assert problems[0].hint == "type --unset method.layers"


def test_declared_keys_of_the_section_are_suggested(load: Load) -> None:
    loaded = load("", "task.max_lenn=5", "-task.max_len")
    options, problems = options_from(Options, loaded.config.task.options, loaded, "task")
    assert options is None
    assert [problem.hint for problem in problems] == [
        "did you mean task.max_len? type --set task.max_len=5"
    ]


def test_declared_keys_of_the_section_are_listed(load: Load) -> None:
    loaded = load("", "task.zzz=5")
    (problem,) = options_from(Options, loaded.config.task.options, loaded, "task")[1]
    assert "layers" in problem.hint
    assert "max_len" in problem.hint
