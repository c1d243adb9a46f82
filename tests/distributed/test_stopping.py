"""Runs of several processes that are interrupted, fail, and go on with as many or others."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks
import tiny
import torch

from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.distributed.shard import part_of
from ptv2_cli.errors import Interrupted, RankEnded
from ptv2_cli.runs import trainer
from ptv2_cli.runs.recorder import RunRecorder
from ptv2_cli.training.events import StepDone

TRAIN = {"lr": 0.02, "steps": 8, "eval_every": 4, "batch_size": 6, "eval_batch_size": 4, "seed": 11}


@pytest.fixture
def config(tmp_path: Path, folder_of: Callable[[str], Path]) -> Path:
    data = tiny.write_rte(tmp_path / "data", train=15)
    path = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data, train=TRAIN)
    path.write_text(path.read_text() + "head: {dropout: 0.2}\n")
    return path


def trained(config: Path, output: Path, group: ProcessGroup, act: Any = None) -> dict[str, Any]:
    """Train or go on; `act` is called after every step with the step's number."""
    after_step, losses = RunRecorder.after_step, []

    def after(self: RunRecorder, event: StepDone) -> None:
        after_step(self, event)
        losses.append(float(event.loss))
        if act is not None:
            act(event.step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunRecorder, "after_step", after)
        session, metrics = tiny.trained(config, output, resume=True, group=group)
    state = session.learner.own_state()
    weights = {name: part_of(value).numpy() for name, value in state.items()}
    return {"losses": losses, "metrics": metrics, "weights": weights}


def interrupted(config: Path, output: Path, size: int, step: int) -> list[Any]:
    """What the ranks raise if a signal comes to the last of them after a step."""

    def call(group: ProcessGroup) -> Any:
        def act(at: int) -> None:
            if at == step and group.rank == size - 1:
                os.kill(os.getpid(), signal.SIGTERM)

        return trained(config, output, group, act)

    return ranks.in_ranks(size, call)


def folder(output: Path) -> Path:
    (found,) = output.iterdir()
    return found


def test_a_signal_to_one_process_saves_and_ends_all(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    errors = interrupted(config, output, 2, step=3)
    assert [type(error) for error in errors] == [Interrupted] * 2
    assert [error.exit_code for error in errors] == [143] * 2
    assert not (folder(output) / "metrics.json").exists()
    assert not (folder(output) / ".lock").exists()
    whole = ranks.in_ranks(2, lambda group: trained(config, tmp_path / "whole", group))
    rest = ranks.in_ranks(2, lambda group: trained(config, output, group))
    assert rest[0]["losses"] == whole[0]["losses"][3:]  # the same bits
    for name, value in whole[0]["weights"].items():
        assert np.array_equal(rest[0]["weights"][name], value), name


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 3)])
def test_it_goes_on_with_another_number_of_processes(
    before: int, after: int, config: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    interrupted(config, output, before, step=3)
    (rest, *_) = ranks.in_ranks(after, lambda group: trained(config, output, group))
    alone = trained(config, tmp_path / "alone", ALONE)
    assert rest["losses"] == pytest.approx(alone["losses"][3:], abs=1e-5)
    assert rest["metrics"]["fingerprint"] == alone["metrics"]["fingerprint"]
    assert rest["metrics"]["metrics"] == alone["metrics"]["metrics"]
    assert rest["metrics"]["environment"]["devices"] == after
    assert rest["metrics"]["timing"]["examples_per_second"] > 0


def test_a_signal_during_an_evaluation_ends_all(config: Path, tmp_path: Path) -> None:
    def call(group: ProcessGroup) -> Any:
        request = RunRecorder.request

        def signalled(self: RunRecorder, *rest: Any) -> Any:
            if group.rank == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return request(self, *rest)

        RunRecorder.request = signalled  # type: ignore[method-assign]
        return trained(config, tmp_path / "out", group)

    errors = ranks.in_ranks(2, call)
    assert [getattr(error, "exit_code", None) for error in errors] == [130, 130]
    assert (folder(tmp_path / "out") / "checkpoints" / "last.json").exists()


def test_an_error_in_one_process_ends_the_others(config: Path, tmp_path: Path) -> None:
    def call(group: ProcessGroup) -> Any:
        def act(step: int) -> None:
            if step == 2 and group.rank == 1:
                raise MemoryError

        return trained(config, tmp_path / "out", group, act)

    first, second = ranks.in_ranks(2, call)
    assert isinstance(first, RankEnded)
    assert first.problems == ()
    assert isinstance(second, MemoryError)


def test_it_is_time_to_save_when_one_process_says_so(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(group: ProcessGroup) -> Any:
        monkeypatch.setattr(trainer, "SAVE_SECONDS", -1.0 if group.rank == 1 else 1e9)
        steps: list[Any] = []
        save = trainer.Trainer._save_all
        monkeypatch.setattr(
            trainer.Trainer, "_save_all", lambda self: (steps.append(1), save(self))[1]
        )
        trained(config, tmp_path / "out", group)
        return len(steps)

    first, second = ranks.in_ranks(2, call)
    assert first == second > TRAIN["steps"]


def test_one_message_of_tensors_a_step(config: Path, tmp_path: Path) -> None:
    def call(group: ProcessGroup) -> Any:
        values: list[int] = []
        steps: list[int] = []
        reduce = torch.distributed.all_reduce

        def counted(tensor: torch.Tensor, **options: Any) -> Any:
            values.append(tensor.numel())
            return reduce(tensor, **options)

        torch.distributed.all_reduce = counted
        found = trained(config, tmp_path / "out", group, steps.append)
        return values, len(steps), found["metrics"]["parameters"]["trainable"]

    for values, steps, trainable in ranks.in_ranks(2, call):
        evaluations = 2  # after each of them, as after a step, the processes agree on signals
        assert values.count(trainable + 1) == steps == TRAIN["steps"]  # the gradients and the loss
        assert values.count(2) == steps + evaluations
        assert len(values) == 2 * steps + evaluations


def test_only_the_first_process_opens_files(config: Path, tmp_path: Path) -> None:
    def call(group: ProcessGroup) -> Any:
        touched: list[str] = []

        def note(event: str, arguments: tuple[Any, ...]) -> None:
            changes = {"open", "os.rename", "os.remove", "os.mkdir", "os.link"}
            if event in changes and str(arguments[0]).startswith(str(tmp_path / "out")):
                touched.append(f"{event} {arguments[0]}")

        sys.addaudithook(note)  # cannot be taken off: this process is forked, and ends soon
        trained(config, tmp_path / "out", group)
        return touched

    first, second = ranks.in_ranks(2, call)
    assert len(first) > 10
    assert second == []
