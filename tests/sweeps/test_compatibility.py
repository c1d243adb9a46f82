"""Which trials may share one backbone, and how the first thing that keeps them apart is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lm
import pytest
import tiny

from ptv2_cli.config.load import parse_set
from ptv2_cli.errors import ConfigError
from ptv2_cli.methods.ptuning_v2 import PTuningV2
from ptv2_cli.registry import METHODS, SESSION
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.sweeps import compatibility
from ptv2_cli.sweeps.axes import from_flags
from ptv2_cli.sweeps.compatibility import alone, difference, groups, require_one_group
from ptv2_cli.sweeps.grid import make_combinations
from ptv2_cli.sweeps.options import LaneRequest
from ptv2_cli.sweeps.trials import Trial, plan_trials


@pytest.fixture
def config(tmp_path: Path, folder_of: Callable[[str], Path]) -> Path:
    data = tiny.write_rte(tmp_path / "rte", train=12, validation=4, test=4)
    return tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data)


def made(config: Path, *sets: str) -> ResolvedRun:
    return tiny.prepared(config, config.parent / "runs", sets)


def trials(config: Path, *grid: str, sets: Sequence[str] = ()) -> tuple[Trial, ...]:
    flags = from_flags(None, None, None, list(grid))
    combinations = make_combinations([config], [parse_set(text) for text in sets], flags)
    return plan_trials(combinations, config.parent / "runs", offline=True).trials


def runs(found: Sequence[Trial]) -> list[ResolvedRun]:
    return [trial.resolved_run for trial in found if trial.resolved_run is not None]


def lanes(config: Path, *grid: str) -> list[list[str]]:
    """The groups, each trial by its values."""
    found = trials(config, *grid)
    values = {t.record.fingerprint: " ".join(map(str, t.record.values.values())) for t in found}
    return [[values[run.fingerprint] for run in group] for group in groups(runs(found))]


@pytest.mark.parametrize(
    ("sets", "key", "reason"),
    [
        (["method=finetune"], "method", "finetune trains the backbone"),
        (
            ["method={name: ptuning_v1, train_backbone: true}"],
            "method",
            "ptuning_v1 trains the backbone",
        ),
        (["head.name=verbalizer"], "head", "the backbone's own head"),
        (
            ["method=none", "head.name=verbalizer", "train.lr=null", "train.epochs=null"],
            "method",
            "none trains nothing",
        ),
    ],
)
def test_what_is_always_alone(
    sets: list[str], key: str, reason: str, tmp_path: Path, config: Path
) -> None:
    if "head.name=verbalizer" in sets:
        config = masked(tmp_path)
    found = alone(made(config, *sets))
    assert found is not None
    assert found[0] == key
    assert reason in found[1]


def masked(tmp_path: Path) -> Path:
    """A config of a backbone with a language-model head, and of words for its answers."""
    rows = lm.write_rows(tmp_path / "words")
    task = {"name": "text/classification", "data": str(rows), "text": "text", "label": "label"}
    head = {"template": lm.TEMPLATE, "words": {"right": "true", "wrong": "false"}}
    backbone = lm.save_masked(tmp_path / "lm")
    return tiny.write_config(tmp_path / "v.yaml", backbone, rows, task=task, head=head)


@pytest.mark.parametrize(
    "method",
    [
        "ptuning_v2",
        "head_only",
        "prompt_tuning",
        "ptuning_v1",
        "{name: ptuning_v2, layers: last:1}",
    ],
)
def test_methods_of_a_frozen_backbone_share(method: str, config: Path) -> None:
    other = made(config, f"method={method}")
    assert alone(other) is None
    assert difference(made(config), other) is None


@pytest.mark.parametrize(
    "text",
    [
        "prompt_len=5", "method.reparam=mlp", "method.init=zero", "method.dropout=0.3",
        "train.lr=1e-3", "train.batch_size=2", "train.eval_batch_size=4", "train.accumulate=2",
        "train.epochs=9", "train.steps=4", "train.seed=12", "train.clip=null",
        "train.schedule=constant", "train.warmup=0.5", "train.weight_decay=0.1",
        "train.eval_every=1", "train.early_stopping={patience: 2}", "head.lr=1e-3",
        "head.pooling=mean", "head.dropout=off", "selection.mode=min",
        "selection={split: holdout, fraction: 0.3}", "report=[validation, test]", "name=other",
    ],
)  # fmt: skip
def test_what_is_each_lanes_own(text: str, config: Path) -> None:
    unset = ["train.epochs=null"] if text.startswith("train.steps") else []
    assert difference(made(config), made(config, *unset, text)) is None


@pytest.mark.parametrize(
    ("text", "key", "one", "other"),
    [
        ("task.max_len=16", "task.max_len", 24, 16),
        ("task.truncation=only_first", "task.truncation", "longest_first", "only_first"),
        ("task.limit={train: 8}", "task.limit.train", None, 8),
        ("task.limit={validation: 3}", "task.limit.validation", None, 3),
        ("backbone.dropout=off", "backbone.dropout", None, "off"),
        ("backbone.dtype=bf16", "backbone.dtype", "fp32", "bf16"),
        ("train.precision=bf16", "train.precision", "fp32", "bf16"),
        ("train.gradient_checkpointing=true", "train.gradient_checkpointing", False, True),
        ("train.compile=true", "train.compile", False, True),
    ],
)
def test_what_lanes_share(text: str, key: str, one: Any, other: Any, config: Path) -> None:
    assert difference(made(config), made(config, text)) == (key, one, other)
    assert difference(made(config, text), made(config)) == (key, other, one)


def test_the_cache_is_shared(config: Path) -> None:
    upper = ["backbone.dropout=off", "method={name: ptuning_v2, layers: last:1}"]
    kept = [made(config, *upper, f"train.cache={where}") for where in ("memory", "disk", "null")]
    assert difference(kept[0], kept[1]) == ("train.cache", "memory", "disk")
    assert difference(kept[0], kept[2]) == ("train.cache", "memory", None)
    assert difference(kept[0], made(config, *upper, "train.cache=memory", "prompt_len=5")) is None


def test_a_sample_by_another_seed_is_the_same_data(config: Path) -> None:
    limit = "task.limit={{train: 8, sample: random, seed: {}}}"
    assert difference(made(config, limit.format(1)), made(config, limit.format(2))) is None
    unseeded = "task.limit={train: 8, sample: random}"
    assert difference(made(config, unseeded), made(config, unseeded, "train.seed=12")) is None


def test_data_is_known_by_content(config: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tmp_path / "rte", tmp_path / "copy")
    assert difference(made(config), made(config, f"task.data={copy}")) is None
    moved = shutil.copy(copy / "train.jsonl", tmp_path / "rows.jsonl")
    assert difference(made(config), made(config, f"task.train={moved}")) is None
    Path(moved).write_text("".join(Path(moved).read_text().splitlines(keepends=True)[:-2]))
    assert difference(made(config), made(config, f"task.train={moved}")) == (
        "task.train", None, str(moved),
    )  # fmt: skip
    fewer = tiny.write_rte(tmp_path / "fewer", train=8, validation=4)
    assert difference(made(config), made(config, f"task.data={fewer}")) == (
        "task.data", str(tmp_path / "rte"), str(fewer),
    )  # fmt: skip


def test_a_split_that_one_alone_reads_is_no_difference(config: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tmp_path / "rte", tmp_path / "copy")
    (copy / "test.jsonl").write_text((copy / "train.jsonl").read_text())
    assert difference(made(config), made(config, f"task.data={copy}")) is None
    both = "report=[validation, test]"
    found = difference(made(config, both), made(config, both, f"task.data={copy}"))
    assert found is not None
    assert found[0] == "task.data"
    # The first trial goes with either of the others, which do not go with one another.
    grid = (f"task.data={tmp_path / 'rte'},{copy}", "report=[validation],[validation, test]")
    assert [len(group) for group in groups(runs(trials(config, *grid)))] == [2, 1]


def test_backbones_are_known_by_content(
    config: Path, tmp_path: Path, folder_of: Callable[[str], Path]
) -> None:
    copy = shutil.copytree(folder_of("bert"), tmp_path / "same")
    assert difference(made(config), made(config, f"backbone={copy}")) is None
    roberta = folder_of("roberta")
    assert difference(made(config), made(config, f"backbone={roberta}")) == (
        "backbone", str(folder_of("bert")), str(roberta),
    )  # fmt: skip


def test_one_of_several_tasks(tmp_path: Path, folder_of: Callable[[str], Path]) -> None:
    ner = tiny.write_ner(tmp_path / "ner", train=8, validation=4)
    words = tiny.write_ner(tmp_path / "words", train=6, validation=4)

    def several(first: Path, max_len: int = 24) -> ResolvedRun:
        parts = [
            {"name": "ner/conll2003", "data": str(first)},
            {"name": "text/tagging", "data": str(words)},
        ]
        changes = {"task": None, "tasks": parts, "report": ["validation"]}
        path = tiny.write_config(tmp_path / "m.yaml", folder_of("bert"), ner, **changes)
        return made(path, f"task.max_len={max_len}")

    copy = shutil.copytree(ner, tmp_path / "copy")
    fewer = tiny.write_ner(tmp_path / "fewer", train=4, validation=4)
    assert difference(several(ner), several(copy)) is None
    assert difference(several(ner), several(fewer)) == (
        "task.tasks[0].data", str(ner), str(fewer),
    )  # fmt: skip
    assert difference(several(ner), several(ner, 16)) == ("task.max_len", 24, 16)


def test_groups_keep_the_plans_order(config: Path) -> None:
    grid = ("task.max_len=24,16", "method=ptuning_v2,finetune,head_only")
    assert lanes(config, *grid) == [
        ["24 ptuning_v2", "24 head_only"],
        ["24 finetune"],
        ["16 ptuning_v2", "16 head_only"],
        ["16 finetune"],
    ]


def test_many_trials_are_compared_with_what_differs_alone(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trials(config, "prompt_len=2,3,4,5", "train.seed=1,2,3,4")
    calls = []
    really = compatibility._difference
    monkeypatch.setattr(compatibility, "_difference", lambda *two: calls.append(1) or really(*two))
    assert [len(group) for group in groups(runs(found))] == [16]
    assert len(calls) == 15


def test_lanes_that_can_all_share_are_let_pass(config: Path) -> None:
    found = trials(config, "prompt_len=2,4", "train.lr=1e-2,1e-3")
    require_one_group(runs(found), LaneRequest(4, "--lanes 4"))


def test_lanes_that_cannot_share_are_told_the_key_and_its_values(config: Path) -> None:
    found = trials(config, "task.max_len=24,16,20", "train.lr=1e-2,1e-3")
    with pytest.raises(ConfigError) as raised:
        require_one_group(runs(found), LaneRequest(4, "--lanes 4"))
    (problem,) = raised.value.problems
    assert problem.where == "--lanes 4"
    assert problem.what == (
        "trials differ in task.max_len (24, 16, 20): lanes share one backbone and its data"
    )
    assert problem.hint.startswith("--lanes auto groups")


def test_lanes_of_a_backbone_that_trains_are_refused(config: Path) -> None:
    found = trials(config, "method=ptuning_v2,finetune")
    with pytest.raises(ConfigError) as raised:
        require_one_group(runs(found), LaneRequest(4, "c.yaml:7", "sweep: {lanes: auto}"))
    (problem,) = raised.value.problems
    assert problem.where == "c.yaml:7"
    assert problem.what.startswith("method: finetune trains the backbone")
    assert problem.hint.startswith("sweep: {lanes: auto} groups")


def test_prompts_with_a_softmax_of_their_own_share_no_pass_with_others(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gated(PTuningV2):
        gated: ClassVar[bool] = True

    monkeypatch.setattr(METHODS, "_entries", {**METHODS._entries, "gated": Gated})
    monkeypatch.setattr(METHODS, "_sources", {**METHODS._sources, "gated": SESSION})
    grid = ("method=ptuning_v2,gated", "prompt_len=2,3")
    assert [len(group) for group in lanes(config, *grid)] == [2, 2]
    plain, gated = made(config), made(config, "method=gated")
    assert difference(plain, gated) == (
        "method",
        "prompts in the text's softmax",
        "prompts with their own softmax",
    )
