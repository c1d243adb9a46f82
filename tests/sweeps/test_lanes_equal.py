"""A lane is the same trial as alone: losses, choice of the epoch and predictions are equal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
from laned import Swept, assert_same

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.runs import trainer
from ptv2_cli.runs.session import Session

FolderOf = Callable[[str], Path]
MIXED: list[dict[str, Any]] = [
    {"prompt_len": 3, "train": {"lr": 0.05}},
    {
        "method": {"name": "ptuning_v2", "reparam": "mlp", "reparam_hidden": 8},
        "prompt_len": 6,
        "train": {"batch_size": 7, "accumulate": 2, "clip": 0.1, "schedule": "constant"},
    },
    {
        "method": {"name": "ptuning_v2", "layers": "last:1", "position_offset": "keep"},
        "prompt_len": 2,
        "head": {"pooling": "mean"},
        "train": {"schedule": "exponential", "eval_every": 4, "seed": 12},
    },
    {"method": "head_only", "prompt_len": None, "train": {"batch_size": 3, "eval_batch_size": 3}},
    {"method": {"name": "prompt_tuning", "place": "before_cls"}, "prompt_len": 4},
    {
        "method": {"name": "prompt_tuning", "place": "after_cls"},
        "prompt_len": 1,
        "train": {"warmup": 0.3, "weight_decay": 0.1, "eval_every": 7},
    },
    {"method": "ptuning_v1", "prompt_len": 6, "train": {"lr": 0.005}},
]
"""Trials that differ in all that lanes may differ in."""
FEW = [MIXED[1], MIXED[3], MIXED[5]]
"""Keys and values, nothing and vectors beside the text: what a pass must keep apart."""
SHORT = {"steps": 6, "eval_every": 3}


@pytest.fixture(autouse=True)
def _one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rows in a pass as on a GPU."""
    monkeypatch.setattr(trainer, "CPU_ROWS", 64)


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("data") / "rte", train=20, validation=12)


def both(configs: list[Path], folder: Path, lanes: int = 99) -> tuple[Swept, Swept]:
    """All trials one after another, and all as lanes."""
    alone = laned.sweep(configs, folder / "alone", 1)
    shared = laned.sweep(configs, folder / "lanes", lanes)
    assert alone.statuses == shared.statuses
    assert alone.watch.most == 1
    assert shared.watch.most == min(lanes, len(configs))
    assert {run.metrics["lanes"] for run in alone.runs} == {1}
    return alone, shared


def compared(alone: Swept, shared: Swept, **tolerance: float) -> None:
    for run, lane in zip(alone.runs, shared.runs, strict=True):
        assert_same(run, lane, **tolerance)


@pytest.mark.parametrize("kept", [True, False])
def test_all_that_lanes_may_differ_in(
    kept: bool, folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:  # outputs of lower layers, which separate those who have prompts elsewhere
        monkeypatch.setattr(Session, "lower_states", lambda session: None)
    last = {**MIXED[-1], "train": {"lr": 0.005, "steps": 18}}
    configs = laned.write(tmp_path, folder_of("bert"), rte, *MIXED[:-1], last, train={"steps": 30})
    alone, shared = both(configs, tmp_path)
    compared(alone, shared)
    assert {run.metrics["lanes"] for run in shared.runs} == {len(MIXED)}
    assert [run.history[-1]["step"] for run in shared.runs] == [30, 30, 30, 30, 30, 30, 18]
    # What is compared is no constant: trials differ from each other and from their beginning.
    assert len({run.losses[-1] for run in alone.runs}) == len(MIXED)
    assert all(run.losses[-1] < 0.95 * run.losses[0] for run in alone.runs[:2])


@pytest.mark.parametrize("family", ["roberta", "llama", "gpt2", "deberta-v2", "bloom", "bart"])
def test_families(family: str, folder_of: FolderOf, rte: Path, tmp_path: Path) -> None:
    trials = FEW if family == "bart" else [*FEW, MIXED[2]]
    configs = laned.write(tmp_path, folder_of(family), rte, *trials, train=SHORT)
    compared(*both(configs, tmp_path))


def test_prompts_with_rates_and_networks_of_their_own(
    folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    options: list[dict[str, Any]] = [
        {"key_lr_factor": 0.1},
        {"key_lr_factor": 0.0, "freeze_first": True},
        {"reparam": "residual", "reparam_hidden": 8, "init": "chunks"},
        {"init": "matched"},
    ]
    trials = [{"method": {"name": "ptuning_v2", **each}, "prompt_len": 4} for each in options]
    configs = laned.write(tmp_path, folder_of("gpt2"), rte, *trials, train=SHORT)
    compared(*both(configs, tmp_path))


def test_an_encoder_decoder_that_decodes(folder_of: FolderOf, rte: Path, tmp_path: Path) -> None:
    cross = {"method": {"name": "ptuning_v2", "sites": "cross"}, "prompt_len": 5}
    configs = laned.write(tmp_path, folder_of("t5"), rte, *FEW, MIXED[6], cross, train=SHORT)
    compared(*both(configs, tmp_path))


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_tags(family: str, folder_of: FolderOf, tmp_path: Path) -> None:
    data = tiny.write_ner(tmp_path / "ner", train=20, validation=12)
    task = {"name": "ner/conll2003", "data": str(data), "max_len": 24}
    trials = [*FEW, {"prompt_len": 5, "head": {"lr": 0.1}}]
    configs = laned.write(tmp_path, folder_of(family), data, *trials, task=task, train=SHORT)
    compared(*both(configs, tmp_path))


def test_choices(folder_of: FolderOf, tmp_path: Path) -> None:
    data = tiny.write_choice(tmp_path / "choice", train=20, validation=12)
    task = {"name": "text/choice", "data": str(data), "text": "text", "choices": "choices"}
    configs = laned.write(tmp_path, folder_of("bert"), data, *FEW, task=task, train=SHORT)
    compared(*both(configs, tmp_path))


def test_answers_in_a_text(folder_of: FolderOf, tmp_path: Path) -> None:
    data = tiny.write_squad(tmp_path / "squad", train=20, validation=12)
    task = {"name": "qa/squad", "data": str(data), "max_len": 24}
    configs = laned.write(tmp_path, folder_of("bert"), data, *FEW, task=task, train=SHORT)
    compared(*both(configs, tmp_path))


def test_several_tasks(folder_of: FolderOf, tmp_path: Path) -> None:
    tasks = [
        {"name": name, "data": str(tiny.write_ner(tmp_path / folder, train=count, validation=8))}
        for name, folder, count in (("ner/conll2003", "a", 16), ("text/tagging", "b", 9))
    ]
    configs = laned.write(
        tmp_path, folder_of("bert"), tmp_path / "a", *FEW,
        task=None, tasks=tasks, report=["validation"], train=SHORT,
    )  # fmt: skip
    compared(*both(configs, tmp_path))


def test_recomputed_activations(folder_of: FolderOf, rte: Path, tmp_path: Path) -> None:
    train = {"gradient_checkpointing": True, **SHORT}
    configs = laned.write(tmp_path, folder_of("bert"), rte, *FEW, train=train)
    compared(*both(configs, tmp_path))


def test_a_few_at_a_time_and_trials_of_other_lengths(
    folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    shapes = [(5, 4), (12, 9), (8, 1), (3, 2), (20, 5), (9, 4), (2, 8)]
    trials = [
        {**trial, "train": {"steps": steps, "eval_every": 3, "lr": 0.01, "batch_size": size}}
        for trial, (steps, size) in zip(MIXED, shapes, strict=True)
    ]
    configs = laned.write(tmp_path, folder_of("bert"), rte, *trials)
    alone, shared = both(configs, tmp_path, lanes=3)
    compared(alone, shared)
    assert {run.metrics["lanes"] for run in shared.runs} == {3}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision(precision: str, folder_of: FolderOf, rte: Path, tmp_path: Path) -> None:
    train = {"precision": precision, **SHORT}
    configs = laned.write(tmp_path, folder_of("bert"), rte, *FEW, train=train)
    alone, shared = both(configs, tmp_path)
    for run, lane in zip(alone.runs, shared.runs, strict=True):
        assert lane.losses == pytest.approx(run.losses, rel=0.1)
        assert lane.metrics["environment"] == run.metrics["environment"]
        last = json.loads((lane.folder / "checkpoints" / "last.json").read_text())
        # Every lane scales its own loss.
        assert bool(last["state"]["scaler"]) is (precision == "fp16")


def test_a_family_that_cannot_mix_offsets_comes_in_several_passes(
    folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    really = Backbone.forward

    def forward(self: Backbone, batch: Any, *rest: Any) -> Any:
        if self.model.training:
            passes.append(len(batch.input_ids))
        return really(self, batch, *rest)

    monkeypatch.setattr(Backbone, "forward", forward)
    trials = [{"prompt_len": length} for length in (2, 2, 4, 4)]
    trials[1] = trials[1] | {"train": {"lr": 0.2}}
    trials[3] = trials[3] | {"train": {"lr": 0.2}}
    train = {"steps": 3, "eval_every": 3}
    # Dropout on: nothing is kept between passes, each is a call.
    for family, expected in (("bloom", [8, 8] * 3), ("t5", [16] * 3), ("llama", [16] * 3)):
        configs = laned.write(
            tmp_path / family, folder_of(family), rte, *trials,
            train=train, dropout=0.1,
        )  # fmt: skip
        passes.clear()
        laned.sweep(configs, tmp_path / family / "runs", 4)
        assert passes == expected, family
