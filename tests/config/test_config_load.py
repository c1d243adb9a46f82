from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.config.load import LoadedConfig, load_config, parse_set
from ptv2_cli.errors import ConfigError, Problem

Load = Callable[..., LoadedConfig]
Fail = Callable[..., list[Problem]]
Write = Callable[..., Path]


def test_four_names_and_a_length(load: Load) -> None:
    config = load().config
    assert config.method.name == "ptuning_v2"
    assert config.backbone.name == "roberta-large"
    assert config.task.name == "superglue/rte"
    assert config.prompt_len == 20
    assert (config.train.seed, config.train.batch_size, config.train.lr) == (11, 32, None)


def test_everything_set(load: Load) -> None:
    text = """\
name: mine
method: {name: p_tuning_v2, layers: 17-24, reparam: mlp}
backbone: {name: bert, revision: 011, dropout: off, trust_remote_code: True}
task: {name: superglue/rte, max_len: 128, truncation: only_first, limit: {train: 8}, own: 1}
prompt_len: 100
head: {name: sequence, pooling: cls, lr: 1, dropout: .5}
train: {lr: 5e-3, epochs: 60, clip: null, eval_every: 10, early_stopping: {patience: 3}}
selection: {split: holdout, fraction: 0.1, metric: accuracy}
report: [validation, test]
sweep: {prompt_len: [20, 100], train.lr: [1e-2]}
"""
    config = load(text, base="").config
    assert config.method.options == {"layers": "17-24", "reparam": "mlp"}
    assert config.backbone.revision == "011"
    assert config.backbone.dropout == "off"
    assert config.backbone.trust_remote_code is True
    assert config.task.options == {"own": 1}
    assert config.task.limit.train == 8
    assert (config.head.lr, type(config.head.lr)) == (1.0, float)
    assert config.train.clip is None
    assert config.train.eval_every == 10
    assert config.train.early_stopping is not None
    assert config.report == ("validation", "test")
    assert config.sweep == {"prompt_len": [20, 100], "train.lr": [0.01]}
    assert config.name == "mine"


@pytest.mark.parametrize(
    ("alias", "name"),
    [("p_tuning_v2", "ptuning_v2"), ("p_tuning", "ptuning_v1"), ("linear_probe", "head_only")],
)
def test_aliases_resolve(load: Load, alias: str, name: str) -> None:
    assert load("", f"method={alias}").config.method.name == name


@pytest.mark.parametrize("text", ["train:\n", "head:\n", "selection:\n", "train:\n  # lr: 5e-3\n"])
def test_empty_sections_are_defaults(load: Load, text: str) -> None:
    assert load(text).config == load().config


def test_source_text_in_text_fields(load: Load) -> None:
    config = load("name: 1e5\n", "task.data=hub:x", "selection.metric=true").config
    assert config.name == "1e5"
    assert config.selection.metric == "true"


def test_where(load: Load, tmp_path: Path) -> None:
    loaded = load("train:\n  lr: 5e-3\n", "train.epochs=3", "method={name: finetune, a: 1}")
    file = tmp_path / "config.yaml"
    assert loaded.path == file
    assert loaded.where("train", "lr") == f"{file}:6"
    assert loaded.where("train") == f"{file}:5"
    assert loaded.where("train", "epochs") == "--set train.epochs"
    assert loaded.where("method", "a") == "--set method"
    assert loaded.where("method", "name") == "--set method"
    assert loaded.where("backbone", "name") == f"{file}:2"
    assert loaded.where("head", "lr") == str(file)
    assert loaded.raw["train"] == {"lr": 0.005, "epochs": 3}


def test_run_directory(write: Write, tmp_path: Path) -> None:
    write(name="run/config.yaml")
    assert load_config(tmp_path / "run").path == tmp_path / "run" / "config.yaml"


def test_home_is_expanded(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write("", base="method: ptuning_v2\nbackbone: ~/m\ntask: {name: t, data: ~/d}\n")
    config = load_config(Path("~/config.yaml")).config
    assert config.backbone.name == str(tmp_path / "m")
    assert config.task.data == str(tmp_path / "d")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("./m", "HERE/m"),
        ("../m", "HERE/../m"),
        ("sub/there", "HERE/sub/there"),
        ("/abs/m", "/abs/m"),
        ("sub/absent", "sub/absent"),
        ("there", "there"),
        ("roberta-large", "roberta-large"),
        ("package:gt_all/model", "package:gt_all/model"),
        ("package:lm/x.gguf", "package:lm/x.gguf"),
        ("x.Q4_1.gguf", "HERE/x.Q4_1.gguf"),
        ("sub/X.GGUF", "HERE/sub/X.GGUF"),
        ("/abs/x.gguf", "/abs/x.gguf"),
        ("x" * 300 + "/y", "x" * 300 + "/y"),
    ],
)
def test_backbone_paths(write: Write, tmp_path: Path, said: str, kept: str) -> None:
    (tmp_path / "cfg" / "sub" / "there").mkdir(parents=True)
    (tmp_path / "cfg" / "there").mkdir()
    path = write(f"method: finetune\nbackbone: {said}\ntask: t\n", "cfg/config.yaml", base="")
    name = load_config(path).config.backbone.name
    if kept.startswith("HERE"):
        kept = str(Path(kept.replace("HERE", str(tmp_path / "cfg"))).resolve())
    assert name == kept


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("data", "HERE/data"),
        ("../x", "HERE/../x"),
        ("011", "HERE/011"),
        ("package:p/data", "package:p/data"),
        ("hub:glue", "hub:glue"),
        ("/abs", "/abs"),
    ],
)
def test_data_paths(write: Write, tmp_path: Path, said: str, kept: str) -> None:
    text = f"method: finetune\nbackbone: b\ntask: {{name: t, data: {said}}}\n"
    data = load_config(write(text, "cfg/config.yaml", base="")).config.task.data
    if kept.startswith("HERE"):
        kept = str(Path(kept.replace("HERE", str(tmp_path / "cfg"))).resolve())
    assert data == kept


def test_init_run_is_a_path(write: Write, tmp_path: Path) -> None:
    text = "method: {name: ptuning_v2, init: {run: ../runs/x}}\nbackbone: b\ntask: t\n"
    config = load_config(write(text, "cfg/config.yaml", base="")).config
    assert config.method.options["init"] == {"run": str((tmp_path / "runs" / "x").resolve())}


def test_paths_of_overrides_are_seen_from_here(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    sets = [parse_set("task.data=d"), parse_set("backbone=./m"), parse_set("method.init={run: r}")]
    config = load_config(write(name="cfg/config.yaml"), sets).config
    assert config.task.data == str(here / "d")
    assert config.backbone.name == str(here / "m")
    assert config.method.options["init"] == {"run": str(here / "r")}


def missing(path: Path) -> Problem:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return caught.value.problems[0]


def test_missing_file_near_another(write: Write, tmp_path: Path) -> None:
    write(name="rte.yaml")
    found = missing(tmp_path / "rte.yml")
    assert found.where == str(tmp_path / "rte.yml")
    assert found.what == "there is no such config file"
    assert found.hint == f"did you mean {tmp_path / 'rte.yaml'}?"


def test_missing_file_lists_the_folder(write: Write, tmp_path: Path) -> None:
    write(name="rte.yaml")
    write(name="copa.yaml")
    hint = missing(tmp_path / "something_else").hint
    assert "copa.yaml, rte.yaml" in hint
    assert "ptv2 list configs" in hint


@pytest.mark.parametrize("path", ["nothing.yaml", "no/folder/x.yaml", ""])
def test_missing_file_with_nothing_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "ptv2 list configs" in missing(Path(path)).hint


def test_folder_without_config(tmp_path: Path) -> None:
    assert missing(tmp_path).what == "is a folder without a config.yaml"


def test_configs_are_frozen(load: Load) -> None:
    config: Any = load().config
    with pytest.raises(ValueError, match="frozen"):
        config.prompt_len = 5


def test_exit_code_is_the_users(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "x.yaml")
    assert caught.value.exit_code == 2
