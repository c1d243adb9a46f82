from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ptv2_cli.config.load import MAX_FILES, load_config, parse_set
from ptv2_cli.errors import ConfigError, Problem

Write = Callable[..., Path]


def failing(path: Path) -> Problem:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return caught.value.problems[0]


def test_deep_merge(write: Write) -> None:
    write("train: {lr: 1e-2, epochs: 5}\nreport: [validation]\n", "base.yaml")
    text = "extends: base.yaml\ntrain: {lr: 5e-3}\nreport: [test]\nprompt_len: 8\n"
    config = load_config(write(text, base="")).config
    assert (config.train.lr, config.train.epochs) == (0.005, 5)
    assert config.report == ("test",)
    assert config.prompt_len == 8
    assert config.extends is None


def test_chain_and_relative_folders(write: Write, tmp_path: Path) -> None:
    write("task: {name: t, data: data}\n", "a/base.yaml", base="method: finetune\nbackbone: ./m\n")
    write("extends: ../a/base.yaml\ntrain: {lr: 1}\n", "b/mid.yaml", base="")
    loaded = load_config(write("extends: b/mid.yaml\ntrain: {seed: 5}\n", base=""))
    assert loaded.config.task.data == str(tmp_path / "a" / "data")
    assert loaded.config.backbone.name == str(tmp_path / "a" / "m")
    assert (loaded.config.train.lr, loaded.config.train.seed) == (1.0, 5)
    assert loaded.where("train", "lr") == f"{tmp_path / 'b' / 'mid.yaml'}:2"
    assert loaded.where("train", "seed") == f"{tmp_path / 'config.yaml'}:2"
    assert loaded.where("method") == f"{tmp_path}/b/../a/base.yaml:1"


def test_data_of_the_child_is_relative_to_the_child(write: Write, tmp_path: Path) -> None:
    write("", "a/base.yaml")
    path = write("extends: ../a/base.yaml\ntask: {data: d}\n", "b/c.yaml", base="")
    task = load_config(path).config.task
    assert (task.name, task.data) == ("superglue/rte", str(tmp_path / "b" / "d"))


@pytest.mark.parametrize(
    ("child", "options"),
    [
        ("method: ptuning_v2", {"layers": "last:8", "reparam": "mlp"}),
        ("method: p_tuning_v2", {"layers": "last:8", "reparam": "mlp"}),
        ("method: {reparam: none}", {"layers": "last:8", "reparam": "none"}),
        ("method: {name: ptuning_v2, x: 1}", {"layers": "last:8", "reparam": "mlp", "x": 1}),
        ("method: finetune", {}),
        ("method: {name: ptuning_v1, x: 1}", {"x": 1}),
    ],
)
def test_options_belong_to_the_name(write: Write, child: str, options: dict[str, object]) -> None:
    base = "method: {name: ptuning_v2, layers: 'last:8', reparam: mlp}\nbackbone: b\ntask: t\n"
    write(base, "base.yaml", base="")
    config = load_config(write(f"extends: base.yaml\n{child}\n", base="")).config
    assert config.method.options == options


@pytest.mark.parametrize(
    ("section", "parent", "child", "key", "kept"),
    [
        ("task", "{name: t, max_len: 64}", "other", "max_len", None),
        ("task", "{name: t, max_len: 64}", "t", "max_len", 64),
        ("backbone", "{name: b, revision: abc}", "other", "revision", None),
        ("backbone", "{name: b, revision: abc}", "b", "revision", "abc"),
        ("head", "{name: sequence, lr: 1}", "token", "lr", None),
        ("head", "{lr: 1}", "token", "lr", 1.0),
    ],
)
def test_other_named_sections(
    write: Write, section: str, parent: str, child: str, key: str, kept: object
) -> None:
    names = {"method": "finetune", "backbone": "b", "task": "t", section: parent}
    write("".join(f"{k}: {v}\n" for k, v in names.items()), "base.yaml", base="")
    config = load_config(write(f"extends: base.yaml\n{section}: {child}\n", base="")).config
    assert getattr(getattr(config, section), key) == kept


def test_null_replaces(write: Write) -> None:
    write("train: {early_stopping: {patience: 2}, clip: 2}\n", "base.yaml")
    text = "extends: base.yaml\ntrain: {early_stopping: null}\n"
    train = load_config(write(text, base="")).config.train
    assert (train.early_stopping, train.clip) == (None, 2.0)


def test_overrides_come_last(write: Write) -> None:
    write("train: {lr: 1}\n", "base.yaml")
    path = write("extends: base.yaml\ntrain: {lr: 2}\n", base="")
    assert load_config(path, [parse_set("train.lr=3")]).config.train.lr == 3.0


def test_a_section_of_both_stands_in_the_child(write: Write, tmp_path: Path) -> None:
    write("train: {lr: 1}\n", "base.yaml")
    loaded = load_config(write("extends: base.yaml\ntrain: {epochs: 2}\n", base=""))
    assert loaded.where("train") == f"{tmp_path / 'config.yaml'}:2"
    assert loaded.where("train", "lr") == f"{tmp_path / 'base.yaml'}:5"


def test_errors_point_into_the_parent(write: Write, tmp_path: Path) -> None:
    write("train: {lr: fast}\n", "base.yaml")
    found = failing(write("extends: base.yaml\n", base=""))
    assert found.where == f"{tmp_path / 'base.yaml'}:5"


def test_missing_parent(write: Write, tmp_path: Path) -> None:
    write("", "base.yaml")
    found = failing(write("extends: bas.yaml\n"))
    assert found.where == f"{tmp_path / 'config.yaml'}:5"
    assert found.what == f"extends bas.yaml, but there is no file {tmp_path / 'bas.yaml'}"
    assert found.hint == f"did you mean {tmp_path / 'base.yaml'}?"


def test_parent_that_is_a_folder(write: Write) -> None:
    assert "there is no file" in failing(write("extends: .\n")).what


@pytest.mark.parametrize("target", ["config.yaml", "other.yaml", "../x/config.yaml"])
def test_circles(write: Write, target: str) -> None:
    write("extends: config.yaml\n", "x/other.yaml")
    found = failing(write(f"extends: {target}\n", "x/config.yaml"))
    assert "extends runs in a circle" in found.what
    assert "config.yaml" in found.what
    assert found.hint


def test_long_chain(write: Write, tmp_path: Path) -> None:
    for number in range(1200):
        write(f"extends: {number + 1}.yaml\n", f"{number}.yaml", base="")
    write(name="1200.yaml")
    found = failing(tmp_path / "0.yaml")
    assert found.where == f"{tmp_path}/{MAX_FILES - 1}.yaml:1"
    assert found.what == f"extends one file too many: at most {MAX_FILES} may build on each other"
    assert load_config(tmp_path / f"{1201 - MAX_FILES}.yaml").config.prompt_len == 20


@pytest.mark.parametrize("target", ["loop.yaml", "loop.yaml/x.yaml", "x" * 5000])
def test_links_and_names_that_lead_nowhere(write: Write, tmp_path: Path, target: str) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    assert "there is no file" in failing(write(f"extends: {target}\n")).what


@pytest.mark.parametrize("value", ["[a.yaml, b.yaml]", "5", "{a: b}", "''"])
def test_extends_is_one_file(write: Write, value: str) -> None:
    assert failing(write(f"extends: {value}\n")).what == "extends must be the name of one file"


def test_extends_null_is_none(write: Write) -> None:
    assert load_config(write("extends: null\n")).config.extends is None


def test_broken_parent(write: Write, tmp_path: Path) -> None:
    write("a: [", "base.yaml", base="")
    assert failing(write("extends: base.yaml\n")).where.startswith(str(tmp_path / "base.yaml"))
