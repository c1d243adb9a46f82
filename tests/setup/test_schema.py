"""The JSON Schema: current, complete, and of the same mind as the models that read a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from ptv2_cli.cli.app import run
from ptv2_cli.config.load import load_config
from ptv2_cli.config.yaml import read_yaml
from ptv2_cli.errors import ConfigError
from ptv2_cli.registry import METHODS
from ptv2_cli.runs.resolve.resolved_config import resolve_names
from ptv2_cli.setup.keys import flat_keys
from ptv2_cli.setup.packaged_files import schema_file, shipped_configs
from ptv2_cli.setup.pages import keys_page
from ptv2_cli.setup.schema import config_schema, schema_text
from ptv2_cli.tasks.catalog import task_names

ROOT = Path(__file__).parents[2]
SCHEMA = config_schema()
STALE = "run scripts/keys_page.py"
HEAD = {"method": "ptuning_v2", "backbone": "roberta-large", "task": "superglue/rte",
        "prompt_len": 20}  # fmt: skip

GOOD: list[dict[str, Any]] = [
    {},
    {"extends": "other.yaml"},
    {"method": {"name": "ptuning_v2", "layers": "17-24", "reparam": "mlp", "dropout": 0.1}},
    {"method": {"name": "ptuning_v2", "layers": 5, "init": {"normal": 0.5}, "dropout": "off"}},
    {"method": "p_tuning_v2"},
    {"method": {"name": "prompt_tuning", "init": "vocab", "place": "before_cls"}},
    {"backbone": {"name": "x", "dropout": "off"}, "head": None, "train": None},
    {"task": {"name": "qa/squad_v2", "stride": 64, "null_threshold": "tuned", "n_best": 5},
     "selection": {"split": "holdout"}},
    {"task": {"name": "qa/squad_v2", "null_threshold": 1.5}},
    {"task": {"name": "ner/conll2003", "scheme": "iob1", "limit": {"train": 10}}},
    {"train": {"lr": 0.1, "eval_every": 100, "early_stopping": {"patience": 3}, "clip": None}},
    {"task": {"name": "text/classification", "train": "x.csv", "text": ["a", "b"], "label": "c"}},
    {"task": {"name": "text/classification", "data": "x", "text": "a", "labels": ["x", "y"]}},
    {"task": {"name": "text/choice", "data": "x", "choices": ["a", "b"], "label_is": "text"}},
    {"task": {"name": "text/tagging", "token_column": 0, "tag_column": "tag"}},
    {"name": 7, "report": ["validation", "test"]},
]  # fmt: skip
BAD: list[dict[str, Any]] = [
    {"methd": "x"},
    {"method": "ptuning_v3"},
    {"method": {"name": "ptuning_v2", "place": "before_cls"}},
    {"method": {"name": "head_only", "dropout": 0.1}},
    {"method": {"name": "ptuning_v2", "init": {"normal": -1}}},
    {"method": {"name": "ptuning_v2", "dropout": 1.5}},
    {"task": "superglue/nothing"},
    {"task": {"name": "qa/squad", "scheme": "bio"}},
    {"task": {"name": "ner/conll2003", "n_best": 5}},
    {"task": {"name": "text/classification", "scheme": "bio"}},
    {"train": {"lr": 0}},
    {"train": {"batch_size": 1.5}},
    {"train": {"eval_every": "batch"}},
    {"train": {"early_stopping": {}}},
    {"head": {"pooling": "max"}},
    {"report": "validation"},
    {"prompt_len": 0},
    {"task": None},
]


def test_the_schema_is_one() -> None:
    Draft7Validator.check_schema(SCHEMA)


def test_the_written_files_are_current() -> None:
    assert schema_file() == ROOT / "docs" / "schema.json"
    assert schema_file().read_text(encoding="utf-8") == schema_text(SCHEMA), STALE
    assert (ROOT / "docs" / "keys.md").read_text(encoding="utf-8") == keys_page(SCHEMA), STALE


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert capsys.readouterr().out == schema_text(SCHEMA)


@pytest.mark.parametrize("change", GOOD, ids=str)
def test_what_ptv2_takes_the_schema_takes(change: dict[str, Any], tmp_path: Path) -> None:
    content = change if "extends" in change else {**HEAD, **change}
    assert list(Draft7Validator(SCHEMA).iter_errors(content)) == []
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(HEAD))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    resolve_names(load_config(tmp_path / "config.yaml"))


@pytest.mark.parametrize("change", BAD, ids=str)
def test_what_ptv2_refuses_the_schema_refuses(change: dict[str, Any], tmp_path: Path) -> None:
    content = {**HEAD, **change}
    assert list(Draft7Validator(SCHEMA).iter_errors(content)) != []
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError):
        resolve_names(load_config(tmp_path / "config.yaml"))


@pytest.mark.parametrize("key", ["method", "backbone", "task"])
def test_the_names_are_needed(key: str) -> None:
    content = {name: value for name, value in HEAD.items() if name != key}
    assert not Draft7Validator(SCHEMA).is_valid(content)
    assert Draft7Validator(SCHEMA).is_valid({**content, "extends": "other.yaml"})


@pytest.mark.parametrize("path", sorted(shipped_configs().rglob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configs_name_the_schema_and_obey_it(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.split("=", 1)[1]).resolve() == schema_file().resolve()
    assert list(Draft7Validator(SCHEMA).iter_errors(_plain(read_yaml(path).data))) == []


def _plain(value: Any) -> Any:
    """Ordinary numbers and mappings for those that remember their source."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def test_every_key_is_described() -> None:
    keys = flat_keys(SCHEMA)
    assert len(keys) > 60
    assert [key.path for key in keys if not key.meaning] == []


def test_methods_and_tasks_are_all_there() -> None:
    keys = {key.path: key for key in flat_keys(SCHEMA)}
    assert set(METHODS.spellings()) == set(keys["method.name"].choices)
    assert list(keys["task.name"].choices) == task_names()
    for name in METHODS.names():
        for option in METHODS.load(name).model_fields:
            assert any(
                key.path == f"method.{option}" and name in key.group.split(", ")
                for key in flat_keys(SCHEMA)
            )


def test_the_page_says_defaults_and_types() -> None:
    page = keys_page(SCHEMA)
    assert "| `train.batch_size` | 32 | whole number, 1 or more |" in page
    assert "| `train.schedule` | linear | linear or cosine or constant or exponential |" in page
    assert "| `method` | needed | section |" in page
    assert "| `method.reparam_hidden` | 512 |" in page
