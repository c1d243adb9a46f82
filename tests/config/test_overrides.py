from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ptv2_cli.config.load import LoadedConfig, parse_set, parse_unset
from ptv2_cli.errors import ConfigError, Problem

Load = Callable[..., LoadedConfig]
Fail = Callable[..., list[Problem]]


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("train.lr=1e-2", ("train", "lr"), 0.01),
        ("prompt_len=20", ("prompt_len",), 20),
        ("report=[a, b]", ("report",), ["a", "b"]),
        ("train.clip=null", ("train", "clip"), None),
        ("a.b=x=y", ("a", "b"), "x=y"),
        ("a=on", ("a",), "on"),
        ("a=true", ("a",), True),
        ("a='5'", ("a",), "5"),
        ("a = 5 ", ("a",), 5),
    ],
)
def test_parse(text: str, path: tuple[str, ...], value: Any) -> None:
    override = parse_set(text)
    assert (override.path, override.value, override.unset) == (path, value, False)
    assert override.origin == f"--set {'.'.join(path)}"


def test_shortcut_flags_name_themselves() -> None:
    assert parse_set("train.lr=1e-2", "--lr").origin == "--lr"


@pytest.mark.parametrize(
    ("text", "where", "what", "hint"),
    [
        ("train.lr", "--set", "'train.lr' has no = ", "--set train.lr=VALUE"),
        ("", "--set", "'' has no = ", "--set train.lr=VALUE"),
        ("=5", "--set", "does not start with a key", "train.lr"),
        ("a..b=5", "--set", "does not start with a key", "train.lr"),
        (".a=5", "--set", "does not start with a key", "train.lr"),
        ("a b=5", "--set", "does not start with a key", "train.lr"),
        ("train.lr=", "--set train.lr", "train.lr has no value", "--unset train.lr"),
        ("report=[a, ", "--set report", "not valid YAML", "quote it twice"),
        ("a={x: 1, x: 2}", "--set a", "is written twice", "quote it twice"),
    ],
)
def test_malformed_sets(text: str, where: str, what: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_set(text)
    found = caught.value.problems[0]
    assert found.where == where
    assert what in found.what
    assert hint in found.hint


@pytest.mark.parametrize("text", ["", ".", "a..b", "a b"])
def test_malformed_unsets(text: str) -> None:
    with pytest.raises(ConfigError, match="does not start with a key"):
        parse_unset(text)


def test_set_and_unset(load: Load) -> None:
    text = "train: {lr: 1e-2, batch_size: 8}\n"
    train = load(text, "train.lr=5e-3", "-train.batch_size", "train.epochs=3").config.train
    assert (train.lr, train.batch_size, train.epochs) == (0.005, 32, 3)


def test_the_last_one_wins(load: Load) -> None:
    assert load("", "prompt_len=5", "prompt_len=6").config.prompt_len == 6
    assert load("", "-prompt_len", "prompt_len=6").config.prompt_len == 6
    assert load("", "prompt_len=6", "-prompt_len").config.prompt_len is None


def test_unset_what_is_not_set(load: Load) -> None:
    config = load("", "-train.lr", "-task.limit.train", "-method.layers", "-sweep.x").config
    assert config == load().config


def test_set_into_a_bare_name(load: Load) -> None:
    method = load("", "method.layers=17-24").config.method
    assert (method.name, method.options) == ("ptuning_v2", {"layers": "17-24"})


def test_set_a_mapping(load: Load) -> None:
    config = load("train: {lr: 1}\n", "train={epochs: 2}", "task.limit={train: 4}").config
    assert (config.train.lr, config.train.epochs) == (1.0, 2)
    assert config.task.limit.train == 4


@pytest.mark.parametrize("key", ["method", "method.name"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("finetune", {}), ("ptuning_v2", {"layers": "last:8"}), ("p_tuning_v2", {"layers": "last:8"})],
)
def test_set_a_name(load: Load, key: str, name: str, options: dict[str, str]) -> None:
    base = "method: {name: ptuning_v2, layers: 'last:8'}\nbackbone: b\ntask: t\n"
    assert load("", f"{key}={name}", base=base).config.method.options == options


@pytest.mark.parametrize("sets", [("task=new", "task.max_len=9"), ("task.max_len=9", "task=new")])
def test_names_are_set_first(load: Load, sets: tuple[str, ...]) -> None:
    base = "method: finetune\nbackbone: b\ntask: {name: old, max_len: 5, truncation: only_first}\n"
    task = load("", *sets, base=base).config.task
    assert (task.name, task.max_len, task.truncation) == ("new", 9, None)


def test_unset_a_name(fail: Fail) -> None:
    found = fail("", "-task")[0]
    assert found.what == "task is missing"


def test_extends_cannot_be_set(fail: Fail) -> None:
    assert fail("", "extends=x.yaml")[0].what == "extends can only be written in a file"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("train.lrr", "type --unset train.lr"),
        ("lr", "type --unset train.lr"),
        ("learning_rate", "type --unset train.lr"),
        ("train.lr.x", ""),
        ("nothing.at.all", ""),
        ("task.limit.dev", "type --unset task.limit.validation"),
        ("backbone.revison", "type --unset backbone.revision"),
    ],
)
def test_unset_of_unknown_keys(fail: Fail, key: str, hint: str) -> None:
    (found,) = fail("", f"-{key}")
    assert (found.where, found.what) == (f"--unset {key}", f"unknown key {key}")
    assert found.hint.startswith(hint)
    assert found.hint


def test_errors_name_the_argument(fail: Fail) -> None:
    (found,) = fail("train:\n  lr: 1\n", "train.lr=fast")
    assert str(found) == (
        '--set train.lr: train.lr must be a number or the word auto, not the text "fast"\n'
        "  -> type --set train.lr=5e-3"
    )


def test_places_follow_the_overrides(load: Load) -> None:
    text = "train:\n  lr: 1\n  early_stopping:\n    patience: 5\n"
    loaded = load(text, "-train.lr", "train.early_stopping=null")
    assert loaded.where("train", "lr").endswith("config.yaml:5")
    assert loaded.where("train", "early_stopping", "patience") == "--set train.early_stopping"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("tran.lr", "did you mean train.lr? type --set train.lr=3"),
        ("tran.lrr", "did you mean train.lr? type --set train.lr=3"),
        ("optimizer.lr", "did you mean train.lr or head.lr? type --set train.lr=3"),
        ("peft.num_virtual_tokens", "num_virtual_tokens is prompt_len here: type --set prompt_l"),
        ("train.early_stoping.patience", "did you mean train.early_stopping.patience? type --set"),
        ("metod.layers", "did you mean method.layers? type --set method.layers=3"),
        ("nothing.at.all", "a config knows these keys: name, extends, include, method"),
    ],
)
def test_a_section_that_does_not_exist(fail: Fail, key: str, meant: str) -> None:
    (found,) = fail("", f"{key}=3")
    assert (found.where, found.what) == (f"--set {key}", f"unknown key {key}")
    assert found.hint.startswith(meant)


def test_every_argument_for_such_a_section_is_told(fail: Fail) -> None:
    first, second = fail("", "tran.lr=3", "tran.epochs=2")
    assert (first.where, second.where) == ("--set tran.lr", "--set tran.epochs")
    assert second.hint == "did you mean train.epochs? type --set train.epochs=2"


def test_a_section_in_the_file_keeps_its_line(fail: Fail) -> None:
    (found,) = fail("tran: {steps: 5}\n", "tran.lr=3")
    assert (found.where, found.what) == ("config.yaml:5", "unknown key tran")


def test_a_value_that_became_a_section(fail: Fail) -> None:
    (found,) = fail("train: {lr: 1}\n", "train.lr.x=3")
    assert (found.where, found.what) == (
        "--set train.lr.x",
        "train.lr must be a number or the word auto, not a mapping",
    )
