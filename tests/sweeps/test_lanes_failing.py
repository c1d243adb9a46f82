"""Lanes in trouble: one that fails, too little memory, a full disk, and what is kept."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
import torch
from laned import Watch, assert_same

from ptv2_cli.errors import Interrupted, MachineError
from ptv2_cli.heads.pooled import SequenceHead
from ptv2_cli.sweeps import session_pool
from ptv2_cli.sweeps.store import Store
from ptv2_cli.training import checkpoint
from ptv2_cli.training.events import Started, StepDone

FolderOf = Callable[[str], Path]
GRID = "prompt_len=2,3,4,5,6"


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("data") / "rte", train=12, validation=6)


@pytest.fixture(scope="module")
def configs(folder_of: FolderOf, rte: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    train = {"steps": 6, "eval_every": 3}
    # What a run draws itself is part of what must not be lost.
    own = {"method": {"name": "ptuning_v2", "dropout": 0.2}, "head": {"dropout": 0.2}}
    folder = tmp_path_factory.mktemp("configs")
    return laned.write(folder, folder_of("bert"), rte, {"prompt_len": 2, **own}, train=train)


@pytest.fixture(scope="module")
def whole(configs: list[Path]) -> laned.Swept:
    """The same trials, one after another and undisturbed."""
    return laned.sweep(configs, configs[0].parent / "whole", 1, grid=GRID)


def same_but(swept: laned.Swept, whole: laned.Swept, *failed: int) -> None:
    """All trials but some are as they are undisturbed."""
    expected = ["failed" if at in failed else "finished" for at in range(5)]
    assert swept.statuses == expected
    for at, (run, other) in enumerate(zip(whole.runs, swept.runs, strict=True)):
        if at not in failed:
            assert_same(run, other)


def failing_head(
    monkeypatch: pytest.MonkeyPatch, name: str, watch: Watch, step: int, error: Exception
) -> None:
    """The head of one trial raises in the forward pass after so many of its steps."""
    really = SequenceHead.forward
    heads: dict[int, str] = {}
    opened = session_pool.open_session

    def open_session(resolved_run: Any, *rest: Any) -> Any:
        session = opened(resolved_run, *rest)
        heads[id(session.learner.head)] = resolved_run.directory.path.name
        keep.append(session.learner.head)  # an id is not given twice
        return session

    def forward(self: Any, *rest: Any) -> Any:
        done = {event.step for event in watch.of(name, StepDone)}
        if heads.get(id(self)) == name and step in done | {0}:
            raise error
        return really(self, *rest)

    keep: list[Any] = []
    monkeypatch.setattr(session_pool, "open_session", open_session)
    monkeypatch.setattr(SequenceHead, "forward", forward)


def name_of(configs: list[Path], output: Path, length: int) -> str:
    (trial,) = laned.plan(configs, output, grid=f"prompt_len={length}").trials
    assert trial.resolved_run is not None
    return trial.resolved_run.directory.path.name


@pytest.mark.parametrize(("length", "step"), [(2, 0), (4, 2), (6, 4)])
def test_a_defect_in_one_lane_fails_it_alone(
    length: int, step: int, configs: list[Path], whole: laned.Swept, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    watch = Watch()
    bad = name_of(configs, tmp_path / "runs", length)
    failing_head(monkeypatch, bad, watch, step, RuntimeError("a bug"))
    swept = laned.sweep(configs, tmp_path / "runs", 4, grid=GRID, watch=watch)
    same_but(swept, whole, length - 2)
    assert watch.outcomes[bad].reason == "a defect: RuntimeError: a bug"
    assert "a bug" in (watch.outcomes[bad].traceback or "")
    assert watch.most == 4
    if length == 2:  # once it is out of the way, all places are taken again
        assert swept.runs[-1].metrics["lanes"] == 4
    # The others went on from where they were, whole steps only.
    for run in swept.runs:
        if run.folder.name != bad:
            taken = [event.step for event in watch.of(run.folder.name, StepDone)]
            assert taken == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("length", [2, 6])
def test_one_that_cannot_be_opened_fails_alone(
    length: int, configs: list[Path], whole: laned.Swept, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    really = session_pool.open_session

    def failing(resolved_run: Any, *rest: Any) -> Any:
        if resolved_run.resolved.config.prompt_len == length:
            raise RuntimeError("a bug")
        return really(resolved_run, *rest)

    monkeypatch.setattr(session_pool, "open_session", failing)
    swept = laned.sweep(configs, tmp_path / "runs", 3, grid=GRID)
    same_but(swept, whole, length - 2)
    assert swept.watch.most == 3


def limited(monkeypatch: pytest.MonkeyPatch, rows: int, kind: type[Exception]) -> list[int]:
    """Training passes of more rows than these find no memory; the passes that did, by rows."""
    from ptv2_cli.backbones.backbone import Backbone

    really = Backbone.forward
    passed: list[int] = []

    def forward(self: Any, batch: Any, *rest: Any) -> Any:
        count = len(batch.input_ids)
        if torch.is_grad_enabled():
            if count > rows:
                raise kind("out of memory")
            passed.append(count)
        return really(self, batch, *rest)

    monkeypatch.setattr(Backbone, "forward", forward)
    return passed


def test_out_of_memory_goes_on_with_fewer(
    configs: list[Path], whole: laned.Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptv2_cli.runs.session.Session.lower_states", lambda session: None)
    passed = limited(monkeypatch, 8, torch.OutOfMemoryError)
    watch = Watch()
    swept = laned.sweep(configs, tmp_path / "runs", 5, grid=GRID, watch=watch)
    same_but(swept, whole)
    assert max(passed) == 8
    assert watch.most == 5
    assert all(run.metrics["lanes"] in {2, 5} for run in swept.runs)


def test_out_of_memory_alone_fails_what_does_not_fit(
    configs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptv2_cli.runs.session.Session.lower_states", lambda session: None)
    limited(monkeypatch, 4, MemoryError)
    grid = "train.batch_size=4,6,3"
    swept = laned.sweep(configs, tmp_path / "runs", 3, grid=grid)
    assert swept.statuses == ["finished", "failed", "finished"]
    (outcome,) = [one for one in swept.watch.outcomes.values() if one.status == "failed"]
    assert outcome.reason == "out of memory"
    assert "halve train.batch_size" in (outcome.hint or "")


def test_one_that_finds_no_room_beside_the_others_waits(
    configs: list[Path], whole: laned.Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, tries = session_pool.open_session, []
    watch = Watch()

    def failing(resolved_run: Any, *rest: Any) -> Any:
        tries.append(resolved_run.resolved.config.prompt_len)
        if len(watch.running) > 2:  # itself included
            raise torch.OutOfMemoryError("CUDA out of memory")
        return really(resolved_run, *rest)

    monkeypatch.setattr(session_pool, "open_session", failing)
    swept = laned.sweep(configs, tmp_path / "runs", 4, grid=GRID, watch=watch)
    same_but(swept, whole)
    assert tries == [2, 3, 4, 4, 5, 6]
    assert all(outcome.attempts == 0 for outcome in watch.outcomes.values())
    lanes = [run.metrics["lanes"] for run in swept.runs]
    assert lanes == [2, 2, 2, 2, 1]


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_full_disk_stops_all_and_loses_nothing(
    lanes: int, configs: list[Path], whole: laned.Swept, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    written, calls = checkpoint.replace_by, 0

    def full(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += "last" in path.name
        if calls > 6:  # two files each: those of three evaluations
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "replace_by", full)
        with pytest.raises(MachineError, match="the disk is full"):
            laned.sweep(configs, tmp_path / "runs", lanes, grid=GRID)
    watch = Watch()
    swept = laned.sweep(configs, tmp_path / "runs", lanes, grid=GRID, watch=watch)
    same_but(swept, whole)
    resumed = [
        event.resumed_at for run in swept.runs for event in watch.of(run.folder.name, Started)
    ]
    assert resumed == ([3, 3, 3, 0, 0] if lanes == 3 else [3, 0, 0, 0])


@pytest.mark.parametrize(("at", "lanes"), [(2, 1), (1, 3), (4, 3)])
def test_a_folder_of_the_sweep_that_cannot_be_written_stops_all(
    at: int, lanes: int, configs: list[Path], whole: laned.Swept, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    save, calls = Store.save, 0

    def full(self: Store) -> None:
        nonlocal calls
        calls += 1
        if calls >= at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", full)
        with pytest.raises((OSError, MachineError)):
            laned.sweep(configs, tmp_path / "runs", lanes, grid=GRID)
    same_but(laned.sweep(configs, tmp_path / "runs", lanes, grid=GRID), whole)


def test_a_defect_outside_all_trials_is_not_hidden(configs: list[Path], tmp_path: Path) -> None:
    class Broken(Watch):
        def ended(self, *told: Any) -> None:
            raise RuntimeError("a bug of the view")

    for lanes, number in ((1, "2"), (3, "2,3,4")):
        with pytest.raises(RuntimeError, match="a bug of the view"):
            laned.sweep(
                configs, tmp_path / number, lanes, grid=f"prompt_len={number}", watch=Broken()
            )


def test_stopped_by_a_key_all_are_saved_and_go_on(
    configs: list[Path], whole: laned.Swept, tmp_path: Path
) -> None:
    watch = Watch()

    def told(name: str, event: Any) -> None:
        nonlocal sent
        if isinstance(event, StepDone) and event.step == 5 and not sent:
            sent = True  # a second one would not wait for the step
            os.kill(os.getpid(), signal.SIGINT)

    sent = False
    watch.told = told
    with pytest.raises(Interrupted) as raised:
        laned.sweep(configs, tmp_path / "runs", 3, grid=GRID, watch=watch)
    assert raised.value.exit_code == 130
    assert "3 runs are saved" in str(raised.value)
    assert "0 of 5 trials are done and kept" in str(raised.value)
    after = Watch()
    swept = laned.sweep(configs, tmp_path / "runs", 2, grid=GRID, watch=after)
    same_but(swept, whole)
    for run in swept.runs[:3]:
        (started,) = after.of(run.folder.name, Started)
        assert started.resumed_at == 5
        assert [event.step for event in after.of(run.folder.name, StepDone)] == [6]
    # Those that were under way together remember it.
    assert [run.metrics["lanes"] for run in swept.runs] == [3, 3, 3, 2, 2]
