from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ptv2_cli.config import fingerprint as module
from ptv2_cli.config.fingerprint import dump_yaml, file_sha256, fingerprint
from ptv2_cli.config.load import LoadedConfig, load_config
from ptv2_cli.config.yaml import Float, Int, parse_yaml
from ptv2_cli.errors import InputError

Load = Callable[..., LoadedConfig]
Write = Callable[..., Path]
IDENTITIES = {"train": "aa", "validation": "bb", "backbone": "cc", "task": "1"}

FULL = """\
name: mine
method: {name: ptuning_v2, layers: 17-24, dropout: 1e-5,
  words: ["on", "011", "5e-3", "1:8", "null"]}
backbone: {name: ./model, revision: 1e5, dropout: off, sha256: "00"}
task: {name: superglue/rte, data: ./data, max_len: 128, limit: {train: 8}, half: 0.5}
prompt_len: 20
head: {lr: 1}
train: {lr: 1e-5, epochs: 60, weight_decay: 1e-20, clip: null, early_stopping: {patience: 3}}
selection: {split: holdout, fraction: .1}
report: [validation, test]
sweep: {prompt_len: [20, 100], train.lr: [1e-2, 5e-3]}
"""


def print_of(loaded: LoadedConfig, **identities: str) -> str:
    return fingerprint(loaded.config.model_dump(), {**IDENTITIES, **identities})


def test_eight_hex_digits(load: Load) -> None:
    assert len(print_of(load())) == 8
    assert int(print_of(load()), 16) >= 0


def test_resolved_config_round_trip(load: Load, write: Write) -> None:
    first = load(FULL, base="")
    text = dump_yaml(first.config.model_dump())
    again = load_config(write(text, "runs/x/config.yaml", base=""))
    assert again.config == first.config
    assert print_of(again) == print_of(first)
    assert dump_yaml(again.config.model_dump()) == text
    assert again.config.method.options["words"] == ["on", "011", "5e-3", "1:8", "null"]


def test_default_round_trip(load: Load, write: Write) -> None:
    first = load()
    again = load_config(write(dump_yaml(first.config.model_dump()), "run/config.yaml", base=""))
    assert again.config == first.config
    assert print_of(again) == print_of(first)


@pytest.mark.parametrize(
    "change",
    [
        "name=other",
        "task.data=elsewhere",
        "task.delimiter=;",
        "task.encoding=gb18030",
        "task.skip_bad=true",
        "backbone.revision=x",
        "backbone.sha256=ff",
        "sweep={a: [1]}",
        "-sweep",
        "-name",
    ],
)
def test_names_and_paths_do_not_count(load: Load, change: str) -> None:
    assert print_of(load("", change, base=FULL)) == print_of(load("", base=FULL))


def test_where_the_backbone_lies_does_not_count(load: Load) -> None:
    moved = FULL.replace("./model", "./moved")
    assert print_of(load("", base=moved)) == print_of(load("", base=FULL))


@pytest.mark.parametrize(
    "change",
    [
        "method=finetune",
        "method.layers=1-24",
        "method.dropout=0.2",
        "backbone.dropout=0.1",
        "backbone.dropout=null",
        "task.max_len=64",
        "task.limit.train=9",
        "task.half=0.6",
        "task.truncation=only_first",
        "prompt_len=21",
        "head.lr=2",
        "head.pooling=cls",
        "head.name=sequence",
        "head.dropout=off",
        "train.lr=2e-5",
        "train.epochs=61",
        "train.batch_size=33",
        "train.eval_batch_size=65",
        "train.accumulate=2",
        "train.clip=1",
        "train.weight_decay=0",
        "train.schedule=constant",
        "train.warmup=0.1",
        "train.seed=12",
        "train.precision=bf16",
        "train.eval_every=5",
        "train.early_stopping.patience=4",
        "train.gradient_checkpointing=true",
        "train.compile=true",
        "selection.split=validation",
        "selection.metric=f1",
        "selection.mode=min",
        "selection.fraction=0.2",
        "report=[test]",
    ],
)
def test_everything_else_counts(load: Load, change: str) -> None:
    assert print_of(load("", change, base=FULL)) != print_of(load("", base=FULL))


def test_every_field_of_the_schema_is_decided(load: Load) -> None:
    """A new key of the schema changes the fingerprint unless it is listed as ignored."""
    dumped = load("", base=FULL).config.model_dump()
    before = fingerprint(dumped, IDENTITIES)
    for key, value in dumped.items():
        for inner in value if isinstance(value, dict) and key not in module.IGNORED else [None]:
            dotted = f"{key}.{inner}" if inner else key
            changed: dict[str, Any] = {**dumped, key: {**value, inner: "!"} if inner else "!"}
            same = fingerprint(changed, IDENTITIES) == before
            assert same == (dotted in module.IGNORED), dotted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("train.lr=5e-3", "train.lr=0.005"),
        ("train.lr=1", "train.lr=1.0"),
        ("train.seed=011", "train.seed=11"),
        ("method=p_tuning_v2", "method=ptuning_v2"),
        ("method.own=5e-3", "method.own=0.005"),
        ("-train.clip", "train.clip=1"),
        ("task.name=superglue/rte", "task={name: superglue/rte}"),
    ],
)
def test_spellings_do_not_count(load: Load, one: str, other: str) -> None:
    assert print_of(load("", one)) == print_of(load("", other))


def test_order_does_not_count() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}, {}) == fingerprint({"b": (1, 2), "a": 1}, {})
    assert fingerprint({"b": [2, 1]}, {}) != fingerprint({"b": [1, 2]}, {})


def test_types_count() -> None:
    prints = {fingerprint({"a": value}, {}) for value in (1, "1", True, None, [1], 1.5)}
    assert len(prints) == 6


def test_identities_count(load: Load) -> None:
    assert print_of(load(), train="zz") != print_of(load())
    assert print_of(load(), test="zz") != print_of(load())


def test_ignored_keys() -> None:
    one, other = {"train": {"lr": 1, "x": 1}}, {"train": {"lr": 1, "x": 2}}
    assert fingerprint(one, {}) != fingerprint(other, {})
    assert fingerprint(one, {}, ["train.x"]) == fingerprint(other, {}, ["train.x"])


def test_results_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint({}, {})
    monkeypatch.setattr(module, "RESULTS_VERSION", module.RESULTS_VERSION + 1)
    assert fingerprint({}, {}) != before


def test_known_value() -> None:
    """Fingerprints of stored runs must not change by accident; RESULTS_VERSION changes them."""
    text = '{"config":{"train":{"lr":0.005}},"identities":{"train":"aa"},"results_version":2}'
    assert module.RESULTS_VERSION == 2
    found = fingerprint({"name": "x", "train": {"lr": 5e-3}}, {"train": "aa"})
    assert found == hashlib.sha256(text.encode()).hexdigest()[:8]


def test_plain_data_only() -> None:
    with pytest.raises(TypeError, match=r"a\.b is no plain data but a set"):
        fingerprint({"a": {"b": {1}}}, {})
    with pytest.raises(TypeError, match="is no plain data"):
        dump_yaml({"a": Path("x")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint({"a": float("nan")}, {})


def test_file_sha256(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc" * 100_000)
    assert file_sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()
    with pytest.raises(InputError, match="cannot be read"):
        file_sha256(tmp_path / "absent")


@pytest.mark.parametrize(
    "value",
    [
        "on",
        "yes",
        "NO",
        "true",
        "True",
        "null",
        "~",
        "",
        "011",
        "11",
        "5e-3",
        "1e5",
        "0x1F",
        "0o17",
        "1:8",
        "190:20:30",
        "2001-12-14",
        ".5",
        ".inf",
        ".nan",
        "1_000",
        "=",
        "<<",
        "a: b",
        "# c",
        "- x",
        "*a",
        "&a",
        "!t",
        "{p:3} {premise}",
        "[a]",
        "'q'",
        '"q"',
        " lead",
        "line\nbreak",
        "café",
        "\t",
        "\x07",
        "x" * 300 + " y" * 300,
        0,
        -3,
        10**30,
        0.1,
        1e-05,
        1e16,
        5e-324,
        1.0,
        -2.5e-07,
        True,
        False,
        None,
        [],
        {},
        [1, [2.0, "3"]],
        {"a": {"1": "2", "on": "x", "y z": 1}},
    ],
)
def test_dump_reads_back_equal_in_both_yamls(value: Any) -> None:
    text = dump_yaml({"key": value})
    for read in (parse_yaml(text, "f").data["key"], yaml.safe_load(text)["key"]):
        assert read == value
        assert isinstance(read, type(value))


def test_dump_floats() -> None:
    assert dump_yaml({"a": 1e-05, "b": Float(5e-3, "5e-3")}) == "a: 1.0e-05\nb: 0.005\n"


def test_dump_keeps_sources_that_both_yamls_read() -> None:
    assert dump_yaml({"a": Float(1.1, "1.10"), "b": Int(11, "011")}) == "a: 1.10\nb: 11\n"


def test_dump_has_no_aliases_and_keeps_order() -> None:
    shared = [1]
    assert dump_yaml({"b": shared, "a": shared}) == "b:\n- 1\na:\n- 1\n"
