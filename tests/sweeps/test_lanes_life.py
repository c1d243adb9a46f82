"""Every lane lives and ends by itself: early stopping, divergence, pruning, freed places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
from laned import Watch, assert_same
from left_behind import assert_bit_equal

from ptv2_cli.errors import RunError
from ptv2_cli.runs.lock import locked
from ptv2_cli.sweeps.trials import Trial
from ptv2_cli.training.events import EvalDone, StepDone, Stopped

FolderOf = Callable[[str], Path]
TRAIN = {"steps": 6, "eval_every": 2}


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("data") / "rte", train=12, validation=6)


@pytest.fixture
def configs(folder_of: FolderOf, rte: Path, tmp_path: Path) -> list[Path]:
    """One config, to be swept over prompt_len."""
    return laned.write(tmp_path, folder_of("bert"), rte, {"prompt_len": 2}, train=TRAIN)


def steps(watch: Watch, name: str) -> list[int]:
    return [event.step for event in watch.of(name, StepDone)]


def names(swept: laned.Swept) -> list[str]:
    return [run.folder.name for run in swept.runs]


def test_early_stopping_frees_a_place(configs: list[Path], tmp_path: Path) -> None:
    # The score of a rate next to nothing never rises; the patience of the others is not used up.
    stopping = "train.early_stopping={patience: 1}"
    grid = "train.lr=1e-12,1e-9,0.01 prompt_len=2,3"
    lanes = laned.sweep(configs, tmp_path / "lanes", 2, stopping, grid=grid)
    alone = laned.sweep(configs, tmp_path / "alone", 1, stopping, grid=grid)
    assert lanes.statuses == alone.statuses
    assert lanes.statuses[:4] == ["early_stopped"] * 4
    assert lanes.watch.most == 2
    for name in names(lanes)[:4]:
        assert steps(lanes.watch, name) == [1, 2, 3, 4]
        (stopped,) = lanes.watch.of(name, Stopped)
        assert stopped.reason == "early_stopped"
    assert lanes.watch.order == names(lanes)
    for one, other in zip(alone.runs, lanes.runs, strict=True):
        assert_same(one, other)


def test_a_place_is_taken_while_the_others_go_on(configs: list[Path], tmp_path: Path) -> None:
    grid = "train.steps=6,2,4 prompt_len=2,3"
    watch = Watch()
    begun: list[tuple[str, list[int]]] = []
    watch.told = lambda name, event: begun.append((name, list(map(len, all_steps(watch)))))
    swept = laned.sweep(configs, tmp_path / "runs", 2, grid=grid, watch=watch)
    assert swept.statuses == ["finished"] * 6
    assert watch.most == 2
    first = {name: next(seen for who, seen in begun if who == name) for name in names(swept)}
    # Steps of all trials, in the order in which they began, when each of them did.
    assert [sum(first[name]) for name in names(swept)] == [0, 0, 12, 12, 16, 16]


def all_steps(watch: Watch) -> list[list[int]]:
    return [steps(watch, name) for name in watch.order]


def test_a_diverging_lane_stops_alone(configs: list[Path], tmp_path: Path) -> None:
    grid = "train.lr=0.01,1e30,0.02"
    lanes = laned.sweep(configs, tmp_path / "lanes", 3, grid=grid)
    assert lanes.statuses == ["finished", "diverged", "finished"]
    _, broken, _ = lanes.runs
    assert broken.metrics["status"] == "diverged"
    assert steps(lanes.watch, broken.folder.name)[-1] <= 2
    without = laned.sweep(configs, tmp_path / "without", 2, grid="train.lr=0.01,0.02")
    for one, other in zip(without.runs, [lanes.runs[0], lanes.runs[2]], strict=True):
        # Alike but for the width of the passes that all three shared.
        assert_same(one, other)


@pytest.mark.parametrize("method", ["ptuning_v1", "prompt_tuning"])
def test_what_is_not_finite_stays_in_its_own_rows(
    method: str, folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    section = {"method": method, "prompt_len": 6}
    trials = [{**section, "train": {"lr": 1e30}}, {"prompt_len": 3}, {**section}]
    configs = laned.write(tmp_path, folder_of("bert"), rte, *trials, train=TRAIN)
    lanes = laned.sweep(configs, tmp_path / "lanes", 3)
    alone = laned.sweep(configs[1:], tmp_path / "alone", 1)
    assert lanes.statuses == ["diverged", "finished", "finished"]
    for one, other in zip(alone.runs, lanes.runs[1:], strict=True):
        assert_same(one, other)


def test_pruned_after_an_evaluation(configs: list[Path], tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def should_stop(trial: Trial, event: EvalDone) -> bool:
        length = int(trial.record.values["prompt_len"])
        asked.append((length, event.step))
        return length == 3 and event.step == 4

    grid = "prompt_len=2,3,4,5"
    swept = laned.sweep(configs, tmp_path / "runs", 2, grid=grid, should_stop=should_stop)
    assert swept.statuses == ["finished", "pruned", "finished", "finished"]
    _, pruned, later, _ = swept.runs
    assert steps(swept.watch, pruned.folder.name) == [1, 2, 3, 4]
    assert swept.watch.of(pruned.folder.name, Stopped)[-1].reason == "pruned"
    outcome = swept.watch.outcomes[pruned.folder.name]
    assert outcome.value == max(line["metrics"]["accuracy"] for line in pruned.history)
    assert len(pruned.history) == 2
    assert not (pruned.folder / "metrics.json").exists()
    assert swept.watch.most == 2
    assert asked == [
        (2, 2), (3, 2), (2, 4), (3, 4), (2, 6), (4, 2), (4, 4), (5, 2), (4, 6), (5, 4), (5, 6),
    ]  # fmt: skip
    assert swept.watch.order.index(later.folder.name) == 2
    board = next(iter(swept.store.leaderboards()))
    assert [setting.pruned for setting in board.settings] == [0, 1, 0, 0]
    assert [len(setting.scores) for setting in board.settings] == [1, 0, 1, 1]
    # It was given up: the same command trains nothing.
    again = laned.sweep(configs, tmp_path / "runs", 2, grid=grid)
    assert again.watch.order == []
    assert again.statuses == swept.statuses


def test_a_pruned_run_goes_on_bit_equal(configs: list[Path], tmp_path: Path) -> None:
    def third(trial: Trial, event: EvalDone) -> bool:
        return trial.record.values["prompt_len"] == 3 and event.step == 4

    grid, output = "prompt_len=2,3", tmp_path / "runs"
    pruned = laned.sweep(configs, output, 1, grid=grid, should_stop=third).runs[1]
    name = pruned.folder.name
    # Another sweep, which has not pruned it, does not take it for a finished run.
    watch = laned.Watch()
    other = laned.sweep(configs, output, 1, grid="prompt_len=3 train.lr=0.01", watch=watch)
    assert other.statuses == ["finished"]
    assert watch.order == [name]
    assert steps(watch, name) == [5, 6]
    whole = laned.sweep(configs, tmp_path / "whole", 1, grid=grid).runs[1]
    assert_bit_equal(whole.folder, pruned.folder)
    # Its sweep has it as finished then.
    again = laned.sweep(configs, output, 1, grid=grid)
    assert again.statuses == ["finished", "finished"]
    assert again.watch.order == []


def test_the_last_evaluation_prunes_nothing(configs: list[Path], tmp_path: Path) -> None:
    swept = laned.sweep(
        configs, tmp_path / "runs", 1, grid="prompt_len=2,3",
        should_stop=lambda trial, event: event.step == TRAIN["steps"],
    )  # fmt: skip
    assert swept.statuses == ["finished", "finished"]


def test_a_pruned_single_trial(configs: list[Path], tmp_path: Path) -> None:
    swept = laned.sweep(
        configs, tmp_path / "runs", 1, grid="prompt_len=2,3", should_stop=lambda trial, event: True
    )
    assert swept.statuses == ["pruned"] * 2
    assert [run.history[-1]["step"] for run in swept.runs] == [2, 2]


def test_each_directory_is_locked_while_its_lane_runs(configs: list[Path], tmp_path: Path) -> None:
    def held(run: laned.Left) -> bool:
        if not run.folder.exists():
            return False
        try:
            with locked(run.folder):
                return False
        except RunError:
            return True

    prepared = laned.plan(configs, tmp_path / "runs", grid="train.steps=2,6 prompt_len=2,3")
    watch = Watch()
    states: list[tuple[bool, ...]] = []

    def told(name: str, event: Any) -> None:
        if isinstance(event, StepDone):
            states.append(tuple(held(run) for run in swept_runs))

    resolved_runs = [trial.resolved_run for trial in prepared.trials]
    swept_runs = [laned.Left(one.directory.path) for one in resolved_runs if one is not None]
    watch.told = told
    swept = laned.sweep(prepared, tmp_path / "runs", 2, watch=watch)
    assert swept.statuses == ["finished"] * 4
    first, then = (True, True, False, False), (False, False, True, True)
    assert states == [first] * 4 + [then] * 12
    assert not any(held(run) for run in swept.runs)


def test_one_that_another_process_writes_fails_alone(configs: list[Path], tmp_path: Path) -> None:
    prepared = laned.plan(configs, tmp_path / "runs", grid="prompt_len=2,3,4")
    taken = prepared.trials[1].resolved_run
    assert taken is not None
    taken.directory.path.mkdir(parents=True)
    with locked(taken.directory.path):
        swept = laned.sweep(prepared, tmp_path / "runs", 3)
    assert swept.statuses == ["finished", "failed", "finished"]
    outcome = swept.watch.outcomes[taken.directory.path.name]
    assert "is being written by another process" in (outcome.reason or "")
    again = laned.sweep(configs, tmp_path / "runs", 3, grid="prompt_len=2,3,4")
    assert again.statuses == ["finished"] * 3
    assert again.watch.order == [taken.directory.path.name]
