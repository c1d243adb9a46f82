"""`train.batch_tokens`: batches of so many tokens, through configs, runs, resume and lanes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from left_behind import assert_bit_equal

from ptv2_cli.config.load import load_config
from ptv2_cli.errors import Interrupted
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.learner import Learner
from ptv2_cli.runs import trainer
from ptv2_cli.runs.trainer import Trainer
from ptv2_cli.sweeps.estimate import estimate
from ptv2_cli.sweeps.memory_estimate import need_of
from ptv2_cli.sweeps.session_pool import SessionPool

TRAIN = {"lr": 0.05, "epochs": 2, "batch_tokens": 60, "accumulate": 2, "seed": 11}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("rte"))


@pytest.fixture
def config(folder_of: Callable[[str], Path], data: Path, tmp_path: Path) -> Path:
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data, train=TRAIN)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[bool, list[int]]:
    """Padded tokens of every pass through the learner, the prompt's included: training or not."""
    seen: dict[bool, list[int]] = {True: [], False: []}
    really = Learner.forward

    def forward(self: Learner, batch: Batch, *rest: Any) -> Any:
        rows, width = batch.input_ids.shape
        seen[self.training].append(rows * (width + 3))
        return really(self, batch, *rest)

    monkeypatch.setattr(Learner, "forward", forward)
    return seen


def test_a_run_keeps_to_the_budget(
    config: Path, tmp_path: Path, passes: dict[bool, list[int]]
) -> None:
    session, metrics = tiny.trained(config, tmp_path)
    lane = session.new_lane()
    assert len(passes[True]) == 2 * lane.batches.batches_per_epoch
    assert lane.steps == 2 * -(-lane.batches.batches_per_epoch // 2)
    assert max(passes[True]) <= 60
    assert [line["step"] for line in session.resolved_run.directory.read_history()] == [
        lane.steps // 2,
        lane.steps,
    ]
    assert "batch_size" not in metrics["config"]["train"]
    again = tiny.opened(session.resolved_run.directory.config, tmp_path / "again")
    assert again.resolved_run.fingerprint == session.resolved_run.fingerprint


def test_evaluations_keep_to_a_budget_unless_rows_are_given(
    config: Path, tmp_path: Path, passes: dict[bool, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptv2_cli.training.evaluate.CPU_TOKENS", 70)
    session = tiny.opened(config, tmp_path)
    whole = session.evaluate("validation")
    assert max(passes[False]) <= 70
    assert len(passes[False]) < 12
    passes[False].clear()
    session = tiny.opened(config, tmp_path, "train.eval_batch_size=12")
    rows = session.evaluate("validation")
    assert len(passes[False]) == 1
    assert rows.scores.metrics == whole.scores.metrics
    passes[False].clear()
    monkeypatch.setattr("ptv2_cli.training.evaluate.CPU_TOKENS", 1)
    tiny.opened(config, tmp_path).evaluate("validation")
    assert len(passes[False]) == 12


def test_resumed_in_the_middle_of_a_step(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.trained(config, tmp_path / "whole")
    really, number = trainer.fit.__globals__["train_batch"], 0

    def failing(*arguments: Any) -> Any:
        nonlocal number
        number += 1
        if number == 4:
            raise Interrupted(2)
        return really(*arguments)

    with monkeypatch.context() as patch:
        patch.setitem(trainer.fit.__globals__, "train_batch", failing)
        with pytest.raises(Interrupted):
            tiny.trained(config, tmp_path / "cut")
    tiny.trained(config, tmp_path / "cut", resume=True)
    (one,), (other,) = ((tmp_path / name).glob("*") for name in ("whole", "cut"))
    assert_bit_equal(one, other)


def test_lanes_of_equal_budgets_share_passes(
    config: Path, tmp_path: Path, passes: dict[bool, list[int]]
) -> None:
    sessions = [tiny.opened(config, tmp_path, f"train.seed={seed}") for seed in (11, 12)]
    with Trainer(tiny.CPU) as both:
        for session in sessions:
            both.add(session, resume=False)
        ended = list(both.train())
    assert len(ended) == 2
    steps = {metrics["selection"]["step"] for _, metrics in ended}
    assert all(step % sessions[0].new_lane().batches.steps_per_epoch == 0 for step in steps)


def test_one_size_of_a_batch(config: Path) -> None:
    message = tiny.problems(config, "train.batch_size=8")
    assert "train.batch_tokens" in message or "run.yaml" in message
    assert "batch_tokens 60 stands beside batch_size 8: a batch has one size" in message
    assert "--unset train.batch_size" in message
    assert "train.batch_tokens must be 1 or more, not 0" in bad(config, "0")
    assert "train.batch_tokens must be a whole number, not 1.5" in bad(config, "1.5")


def bad(config: Path, value: str) -> str:
    return tiny.problems(config, f"train.batch_tokens={value}")


def test_the_batch_size_of_a_run_with_a_budget_is_not_dumped(config: Path) -> None:
    train = load_config(config).config.train.model_dump()
    assert train["batch_tokens"] == 60
    assert "batch_size" not in train
    assert load_config(config).config.model_copy().train.batch_tokens == 60


def test_memory_and_time_are_estimated(config: Path, tmp_path: Path) -> None:
    need = need_of(tiny.opened(config, tmp_path))
    larger = need_of(tiny.opened(config, tmp_path, "train.batch_tokens=240"))
    assert need.rows < larger.rows
    assert need.batch < larger.batch
    run = tiny.prepared(config, tmp_path)
    found = estimate([run], SessionPool(tiny.CPU))
    assert found is not None
    assert found[run.fingerprint] > 0
