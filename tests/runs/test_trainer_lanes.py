"""Runs side by side: what each draws, counts and writes as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
import torch

from ptv2_cli.errors import Interrupted
from ptv2_cli.rng import SeededDropout
from ptv2_cli.runs import trainer
from ptv2_cli.runs.recorder import RunRecorder
from ptv2_cli.runs.trainer import Trainer
from ptv2_cli.sweeps.session_pool import SessionPool

FolderOf = Callable[[str], Path]
OWN = {"method": {"name": "ptuning_v2", "dropout": 0.3}, "head": {"dropout": 0.2}}
"""Dropout of prompts and head, which is each run's own."""


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("data") / "rte", train=12, validation=6)


def best(run: laned.Left) -> str:
    """The name of the file of the best weights, which has their hash in it."""
    (found,) = (run.folder / "checkpoints").glob("best-*.safetensors")
    return found.name


@pytest.mark.parametrize("dropout", ["off", 0.1])
def test_one_lane_is_train_bit_for_bit(
    dropout: float | str, folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    trials = [{"prompt_len": 3, **OWN}, {"method": "prompt_tuning", "prompt_len": 2}]
    configs = laned.write(tmp_path, folder_of("bert"), rte, *trials, dropout=dropout)
    swept = laned.sweep(configs, tmp_path / "runs", 1, seed="11,12")
    for number, run in enumerate(swept.runs):
        path, seed = configs[number // 2], 11 + number % 2
        session, metrics = tiny.trained(path, tmp_path / "alone", f"train.seed={seed}")
        other = laned.Left(session.resolved_run.directory.path)
        assert best(other) == best(run)
        assert metrics["lanes"] == run.metrics["lanes"] == 1
        assert other.losses == run.losses
        file = Path("predictions/validation.jsonl")
        assert (other.folder / file).read_bytes() == (run.folder / file).read_bytes()


def test_own_dropout_is_the_same_whatever_the_neighbours(
    folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    trials = [
        {"prompt_len": 3, **OWN},
        {"prompt_len": 5, **OWN, "train": {"seed": 12}},
        {"method": "head_only", "prompt_len": None, "head": {"dropout": 0.5}},
        {"prompt_len": 2, "train": {"batch_size": 3, "accumulate": 2}, **OWN},
    ]
    configs = laned.write(tmp_path, folder_of("bert"), rte, *trials)
    alone = laned.sweep(configs, tmp_path / "alone", 1)
    for name, lanes, order in (("all", 4, configs), ("few", 2, configs[::-1])):
        swept = laned.sweep(order, tmp_path / name, lanes)
        runs = swept.runs if order is configs else swept.runs[::-1]
        for one, other in zip(alone.runs, runs, strict=True):
            laned.assert_same(one, other)
    # Without dropout they would lose other amounts.
    silent = laned.sweep(configs[:1], tmp_path / "silent", 1, grid="method.dropout=off,0.1")
    assert all(run.losses != pytest.approx(alone.runs[0].losses, rel=1e-3) for run in silent.runs)


def test_the_backbones_dropout_draws_the_same(
    folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    trials = [{"prompt_len": 3}, {"method": "prompt_tuning", "prompt_len": 5}, {"prompt_len": 5},
              {"method": "head_only", "prompt_len": None}]  # fmt: skip
    configs = laned.write(tmp_path, folder_of("bert"), rte, *trials, dropout=0.1)
    alone = laned.sweep(configs, tmp_path / "alone", 1, seed="11,12")
    lanes = laned.sweep(configs, tmp_path / "lanes", 8, seed="11,12")
    assert lanes.statuses == ["finished"] * 8
    assert {run.metrics["lanes"] for run in lanes.runs} == {8}
    for one, other in zip(alone.runs, lanes.runs, strict=True):
        laned.assert_same(one, other)
        assert one.metrics["fingerprint"] == other.metrics["fingerprint"]
        assert one.folder.name == other.folder.name


def test_the_global_generator_is_given_back(folder_of: FolderOf, rte: Path, tmp_path: Path) -> None:
    trials = [{"prompt_len": 3}, {"prompt_len": 5}]
    configs = laned.write(tmp_path, folder_of("bert"), rte, *trials, dropout=0.1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    laned.sweep(configs, tmp_path / "runs", 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_time_is_divided_among_those_who_shared_it(
    folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0

    def tick() -> float:
        nonlocal clock
        clock += 1.0
        return clock

    train = {"steps": 4, "eval_every": 4}
    configs = laned.write(
        tmp_path, folder_of("bert"), rte, *({"prompt_len": at} for at in (2, 3, 4)), train=train
    )
    monkeypatch.setattr(trainer.time, "perf_counter", tick)
    swept = laned.sweep(configs, tmp_path / "runs", 3)
    seconds = [run.metrics["timing"]["train_seconds"] for run in swept.runs]
    assert seconds[1] == pytest.approx(seconds[2], abs=1.0)
    assert 0 < sum(seconds) < clock
    evaluating = [run.metrics["timing"]["eval_seconds"] for run in swept.runs]
    assert evaluating[0] == evaluating[1] == evaluating[2] > 0


def test_accumulating_beside_one_that_does_not_is_saved_as_of_whole_steps(
    folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saves fall in the middle of the first run's steps, and everything ends after one."""
    trials = [
        {"prompt_len": 3, **OWN, "train": {"accumulate": 3, "batch_size": 2, "steps": 6}},
        {"prompt_len": 5, **OWN, "train": {"steps": 12}},
    ]
    configs = laned.write(tmp_path, folder_of("bert"), rte, *trials, train={"eval_every": 6})
    whole = laned.sweep(configs, tmp_path / "whole", 2)

    for saves in (2, 5):
        output = tmp_path / f"cut{saves}"
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "SAVE_SECONDS", -1.0)
            patch.setattr(Trainer, "_save_all", ending(saves))
            with pytest.raises(Interrupted):
                laned.sweep(configs, output, 2)
        swept = laned.sweep(configs, output, 2)
        for one, other in zip(whole.runs, swept.runs, strict=True):
            laned.assert_same(one, other)


def ending(saves: int) -> Callable[[Trainer], None]:
    """A `_save_all` that ends everything after so many of its calls."""
    really, calls = Trainer._save_all, 0

    def save_all(self: Trainer) -> None:
        nonlocal calls
        really(self)
        calls += 1
        if calls == saves:
            raise KeyboardInterrupt

    return save_all


def test_saving_in_the_middle_of_a_step_changes_nothing(
    folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [
        {"prompt_len": 3, **OWN, "train": {"accumulate": 3, "batch_size": 2}},
        {"prompt_len": 5, **OWN},
    ]
    configs = laned.write(tmp_path, folder_of("bert"), rte, *trials)
    alone = laned.sweep(configs, tmp_path / "alone", 1)
    monkeypatch.setattr(trainer, "SAVE_SECONDS", -1.0)
    swept = laned.sweep(configs, tmp_path / "runs", 2)
    for one, other in zip(alone.runs, swept.runs, strict=True):
        laned.assert_same(one, other)


def test_a_run_that_cannot_join_lets_go_of_its_directory(
    folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.runs.lock import locked

    configs = laned.write(tmp_path, folder_of("bert"), rte, {"prompt_len": 2}, {"prompt_len": 3})
    opener = SessionPool(tiny.CPU)
    sessions = []
    for trial in laned.plan(configs, tmp_path / "runs").trials:
        assert trial.resolved_run is not None
        sessions.append(opener.open(trial.resolved_run))
    folders = [session.resolved_run.directory.path for session in sessions]
    begin = RunRecorder.begin

    def failing(self: RunRecorder, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        raise RuntimeError("a bug")

    with Trainer(tiny.CPU) as driver:
        driver.add(sessions[0], resume=False)
        with monkeypatch.context() as patch:
            patch.setattr(RunRecorder, "begin", failing)
            with pytest.raises(RuntimeError, match="a bug"):
                driver.add(sessions[1], resume=False)
        assert len(driver) == 1
        with locked(folders[1]):
            pass
    with locked(folders[0]):  # and so has the other, now that all is over
        pass


def test_masks_of_dropout_are_as_before_a_step_that_is_dropped() -> None:
    dropout = SeededDropout(0.5, 3, "dropout/prompt")
    ones = torch.ones(64)
    kept = dropout.state()
    first = dropout(ones)
    assert not torch.equal(dropout(ones), first)
    dropout.restore(kept)
    assert torch.equal(dropout(ones), first)
