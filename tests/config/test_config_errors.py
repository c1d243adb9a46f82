from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ptv2_cli.config.load import LoadedConfig, load_config
from ptv2_cli.config.suggestions import FOREIGN, in_file
from ptv2_cli.errors import ConfigError, Fix, Problem

Load = Callable[..., LoadedConfig]
Fail = Callable[..., list[Problem]]
Write = Callable[..., Path]
LINE = "config.yaml:5"


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, [str(p) for p in problems]
    assert problems[0].hint
    return problems[0]


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        (
            "train: {lr: fast}",
            'train.lr must be a number or the word auto, not the text "fast"',
            "write train: {lr: 5e-3}",
        ),
        (
            "train: {lr: '1e-2'}",
            'train.lr must be a number or the word auto, not the text "1e-2"',
            "write train: {lr: 1e-2}",
        ),
        (
            "train: {lr: true}",
            "train.lr must be a number or the word auto, not true",
            "write train: {lr: 5e-3}",
        ),
        ("train: {lr: Auto}", None, "write train: {lr: auto}"),
        ("train: {lr: 0}", "train.lr must be above 0 or the word auto, not 0", ""),
        ("train: {lr: -5e-3}", "train.lr must be above 0 or the word auto, not -5e-3", ""),
        ("train: {lr: .inf}", "train.lr must be a finite number or the word auto, not .inf", ""),
        ("train: {lr: {a: 1}}", "train.lr must be a number or the word auto, not a mapping", ""),
        (
            "train: {lr: [1, 2]}",
            "train.lr must be a number or the word auto, not a list",
            "ptv2 sweep --lr A,B",
        ),
        (
            "train: {batch_size: 8.0}",
            "train.batch_size must be a whole number, not 8.0",
            "write train: {batch_size: 8}",
        ),
        (
            "train: {batch_size: null}",
            "train.batch_size must be a whole number, not null",
            "leave train.batch_size out for its default (32)",
        ),
        ("train: {batch_size: 1_000}", None, "write train: {batch_size: 1000}"),
        ("train: {batch_size: 0}", "train.batch_size must be 1 or more, not 0", "(32)"),
        (
            "train: {batch_size: 9223372036854775808}",
            "train.batch_size must be below 2147483648, not 9223372036854775808",
            "(32)",
        ),
        ("train: {seed: -1}", "train.seed must be 0 or more, not -1", "(11)"),
        ("train: {seed: 4294967296}", "train.seed must be below 4294967296, not 4294967296", ""),
        ("train: {seed: [1, 2]}", "train.seed must be a whole number, not a list", "--seed A,B"),
        ("train: {clip: [1]}", "train.clip must be a number, not a list", "--grid train.clip=A,B"),
        ("train: {warmup: 1.5}", "train.warmup must be below 1, not 1.5", ""),
        (
            "train: {gradient_checkpointing: on}",
            'train.gradient_checkpointing must be true or false, not the text "on"',
            "write train: {gradient_checkpointing: true}",
        ),
        (
            "train: {gradient_checkpointing: 1}",
            "train.gradient_checkpointing must be true or false, not 1",
            "(false)",
        ),
        (
            "train: {schedule: linaer}",
            'train.schedule must be one of linear, cosine, constant, exponential, not "linaer"',
            "write train: {schedule: linear}",
        ),
        (
            "train: {schedule: 5}",
            "train.schedule must be one of linear, cosine, constant, exponential, not 5",
            "(linear)",
        ),
        (
            "train: {eval_every: 0}",
            "train.eval_every must be the word epoch or a number of steps, 1 or more, not 0",
            "(epoch)",
        ),
        ("train: {eval_every: never}", None, "(epoch)"),
        (
            "train: {early_stopping: 3}",
            "train.early_stopping must be a mapping, not 3",
            "the keys of train.early_stopping are: patience",
        ),
        (
            "train: {early_stopping: {}}",
            "train.early_stopping.patience is missing",
            "write train: {early_stopping: {patience: ...}}",
        ),
        ("train: 5", "train must be a mapping, not 5", "the keys of train are: lr, epochs"),
        ("train: [lr]", "train must be a mapping, not a list", ""),
        ("head: [a]", "head must be a mapping, not a list", ""),
        ("head: {name: sequnce}", "head.name: unknown head 'sequnce'", "'sequence'"),
        (
            "head: {dropout: 1.5}",
            "head.dropout must be a number from 0 to below 1, or the word off, not 1.5",
            "",
        ),
        ("head: {dropout: true}", None, "leave head.dropout out"),
        (
            "selection: {split: dev}",
            'selection.split must be one of validation, test, holdout, not "dev"',
            "write selection: {split: validation}",
        ),
        ("selection: {fraction: 1}", "selection.fraction must be below 1, not 1", ""),
        ("selection: {metric: [f1]}", "selection.metric must be text, not a list", ""),
        ("report: test", 'report must be a list, not the text "test"', "write report: [test]"),
        ("report: dev", None, "write report: [validation]"),
        (
            "report: [validation, train]",
            'report[1] must be one of validation, test, holdout, not "train"',
            "",
        ),
        ("name: a/b", None, "leave name out"),
        ("sweep: 5", "sweep must be a mapping, not 5", ""),
        ("train: {lr: 1, stepz: 5}", "unknown key train.stepz", "write train: {steps: 5}"),
    ],
)
def test_messages(fail: Fail, text: str, what: str | None, hint: str) -> None:
    found = only(fail(text + "\n"))
    assert found.where == LINE
    assert what is None or found.what == what
    assert hint in found.hint


@pytest.mark.parametrize("sets", [(), ("prompt_len=0",)])
def test_prompt_len_zero(fail: Fail, sets: tuple[str, ...]) -> None:
    base = "method: ptuning_v2\nbackbone: b\ntask: t\n"
    found = only(fail("" if sets else "prompt_len: 0\n", *sets, base=base))
    assert found.what == "prompt_len must be 1 or more, not 0"
    assert "method: head_only" in found.hint or "--set method=head_only" in found.hint
    assert "without prompts" in found.hint


def test_prompt_len_list(fail: Fail) -> None:
    assert "ptv2 sweep --prompt-len A,B" in only(fail("", "prompt_len=[20, 100]")).hint


@pytest.mark.parametrize("key", ["method", "backbone", "task"])
def test_missing_names(fail: Fail, key: str) -> None:
    names = {"method": "finetune", "backbone": "b", "task": "t"}
    del names[key]
    found = only(fail("".join(f"{k}: {v}\n" for k, v in names.items()), base=""))
    assert (found.where, found.what) == ("config.yaml", f"{key} is missing")
    assert found.hint.startswith(f"write {key}: ")


@pytest.mark.parametrize("value", ["null", "{max_len: 5}"])
def test_sections_without_a_name(fail: Fail, value: str) -> None:
    found = only(fail(f"method: finetune\nbackbone: b\ntask: {value}\n", base=""))
    assert (found.where, found.what) == ("config.yaml:3", "task.name is missing")
    assert "ptv2 list tasks" in found.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ptunin_v2", "did you mean 'ptuning_v2'?"),
        ("LoRA", "did you mean 'lora'?"),
        ("prefix_tuning", "method: {name: ptuning_v2, reparam: mlp}"),
        ("zzz", "ptv2 list methods"),
    ],
)
def test_unknown_methods(fail: Fail, name: str, hint: str) -> None:
    found = only(fail(f"method: {name}\nbackbone: b\ntask: t\n", base=""))
    assert (found.where, found.what) == ("config.yaml:1", f"method.name: unknown method '{name}'")
    assert hint in found.hint


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("lr: 5e-3", "lr", "did you mean train.lr or head.lr? write train: {lr: 5e-3}"),
        ("epochs: 5", "epochs", "did you mean train.epochs? write train: {epochs: 5}"),
        ("seed: 5", "seed", "did you mean train.seed or generate.seed? write train: {seed: 5}"),
        ("max_len: 5", "max_len", "did you mean task.max_len? write task: {name: ..., max_len: 5}"),
        ("batch_sise: 5", "batch_sise", "did you mean train.batch_size?"),
        ("patience: 5", "patience", "a config knows these keys: name, extends, include, method"),
        ("promt_len: 5", "promt_len", "did you mean prompt_len? write prompt_len: 5"),
        ("prompt-length: 5", "prompt-length", "prompt-length is prompt_len here"),
        ("trian: {lr: 1}", "trian", "did you mean train? write train: ..."),
        ("learning_rates: 1", "learning_rates", "keys"),
        ("train: {LR: 1}", "train.LR", "did you mean train.lr? write train: {lr: 1}"),
        ("train: {prompt_len: 5}", "train.prompt_len", "did you mean prompt_len?"),
        ("train: {max_len: 5}", "train.max_len", "did you mean task.max_len?"),
        ("train: {dropout: 0.1}", "train.dropout", "backbone.dropout or head.dropout"),
        ("train: {zzz: 5}", "train.zzz", "train knows these keys: lr, epochs, steps"),
        ("selection: {5: null}", "selection.5", "needs quotes inside { }"),
    ],
)
def test_unknown_keys(fail: Fail, text: str, key: str, hint: str) -> None:
    found = only(fail(text + "\n"))
    assert (found.where, found.what) == (LINE, f"unknown key {key}")
    assert hint in found.hint


TABLE = {
    "pre_seq_len": "prompt_len",
    "num_virtual_tokens": "prompt_len",
    "prefix_projection": "method.reparam",
    "prefix_hidden_size": "method.reparam_hidden",
    "encoder_hidden_size": "method.reparam_hidden",
    "learning_rate": "train.lr",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.batch_size",
    "gradient_accumulation_steps": "train.accumulate",
    "max_seq_length": "task.max_len",
    "hidden_dropout_prob": "backbone.dropout",
    "model_name_or_path": "backbone",
}


@pytest.mark.parametrize("section", ["", "method", "backbone", "task", "train", "head"])
@pytest.mark.parametrize(("name", "key"), TABLE.items())
def test_names_from_elsewhere_wherever_they_stand(
    fail: Fail, name: str, key: str, section: str
) -> None:
    assert FOREIGN[name] == key
    path = f"{section}.{name}" if section else name
    found = only(fail("", f"{path}=3"))
    assert (found.where, found.what) == (f"--set {path}", f"unknown key {path}")
    value = "mlp" if name == "prefix_projection" else "3"
    assert found.hint == f"{name} is {key} here: type --set {key}={value}"


def test_a_length_of_texts_to_write_is_none_of_the_input(fail: Fail) -> None:
    found = only(fail("", "generate.max_length=20"))
    key = "generate.max_new_tokens"
    assert found.hint == f"max_length is {key} here: type --set {key}=20"
    assert "max_length is task.max_len here" in only(fail("", "train.max_length=20")).hint


def test_names_from_elsewhere_in_a_file(fail: Fail) -> None:
    found = only(fail("prefix_projection: true\n"))
    assert found.where == LINE
    assert "write method: {name: ptuning_v2, reparam: mlp}" in found.hint
    assert "off by default" in only(fail("prefix_projection: false\n")).hint


@pytest.mark.parametrize("name", FOREIGN)
def test_hints_of_names_from_elsewhere_are_accepted(load: Load, name: str) -> None:
    """What the hint tells to write, with the section's name filled in, is a valid config."""
    key, section = FOREIGN[name], FOREIGN[name].split(".")[0]
    values = {"train.schedule": "linear", "train.precision": "fp32"}
    fractions = ("train.warmup", "backbone.dropout")
    value = values.get(key, "0.1" if key in fractions else "3")
    names = {"method": "finetune", "backbone": "b", "task": "t"}
    line = in_file(key, value).replace("...", names.get(section, ""))
    rest = "".join(f"{k}: {v}\n" for k, v in names.items() if k != section)
    load("", base=f"{rest}{line}\n")


def test_a_misspelled_key_is_not_also_missing(fail: Fail) -> None:
    found = only(fail("method: finetune\nbackbon: b\ntask: t\n", base=""))
    assert found.what == "unknown key backbon"


@pytest.mark.parametrize("flag", ["true", "True"])
def test_trust_remote_code_wants_a_revision(fail: Fail, load: Load, flag: str) -> None:
    base = "method: finetune\nbackbone: {name: b, trust_remote_code: " + flag + "}\ntask: t\n"
    found = only(fail("", base=base))
    assert found.where == "config.yaml:2"
    assert found.what.startswith("backbone.trust_remote_code: ")
    assert "revision" in found.what
    assert "revision: COMMIT" in found.hint
    assert load("", "backbone.revision=abc", base=base).config.backbone.trust_remote_code is True
    assert load("", "backbone.trust_remote_code=false", base=base)


def test_one_length(fail: Fail) -> None:
    found = only(fail("train:\n  epochs: 5\n  steps: 100\n"))
    assert found.where == "config.yaml:7"
    assert found.what == "train.steps: stands beside epochs; a run has one length"
    assert "--unset train.epochs" in found.hint


def test_all_problems_at_once_in_order(fail: Fail) -> None:
    text = """\
method: {name: zzz, prefix_projection: true}
backbone: {name: b, trust_remote_code: true}
task: {name: t, limit: {train: 0}}
prompt_len: 0
lr: 1
train:
  lr: fast
  epochs: 1
  steps: 2
  schedule: x
selection: {split: all}
"""
    found = fail(text, "head.pooling=all", "-train.sed", base="")
    assert [problem.where for problem in found] == [
        *("config.yaml:1", "config.yaml:1", "config.yaml:2", "config.yaml:3", "config.yaml:4"),
        *("config.yaml:5", "config.yaml:7", "config.yaml:9", "config.yaml:10", "config.yaml:11"),
        *("--unset train.sed", "--set head.pooling"),
    ]
    assert all(problem.what and problem.hint for problem in found)


def test_no_jargon(fail: Fail) -> None:
    text = "train: {lr: fast, epochs: [], schedule: 1}\nreport: 5\nhead: []\ntask: {name: {}}\n"
    said = "\n".join(str(problem) for problem in fail(text, base="")).lower()
    for word in ("input should", "pydantic", "value error", "literal", "extra", "dict", "str "):
        assert word not in said


def test_long_values_are_cut(fail: Fail) -> None:
    assert len(only(fail(f"train: {{lr: {'x' * 500}}}\n")).what) < 150
    assert len(only(fail(f"train: {{seed: {'9' * 500}}}\n")).what) < 150


def test_broken_yaml_reaches_the_user(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml:2: is not valid YAML"):
        load_config(write("a: 1\nb: c: d\n", base=""))


def test_report_of_nothing(fail: Fail) -> None:
    problem = only(fail("", "report=[]"))
    assert "names no split" in problem.what
    assert problem.hint == "write report: [validation]"


def test_retention_is_no_split(fail: Fail) -> None:
    problem = only(fail("report: [validation, retention]\n"))
    assert "names retention" in problem.what
    assert problem.hint.endswith("write retention: true")


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        (
            "learning_rate=1e-3",
            Fix("train.lr", "1e-3", "learning_rate is train.lr here: ", "", True),
        ),
        ("train.batch_size=4.0", Fix("train.batch_size", "4")),
        ("train.clip=-1", Fix("train.clip", None, after=" (1.0)")),
        ("method=zzz", None),
    ],
)
def test_a_hint_that_changes_one_key_is_structured(
    fail: Fail, override: str, fix: Fix | None
) -> None:
    found = only(fail("", override))
    assert found.fix == fix
    if fix is not None:
        assert fix.key in found.hint
        assert (fix.value or "--unset") in found.hint
