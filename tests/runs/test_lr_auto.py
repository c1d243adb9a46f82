"""`train.lr: auto`: the range test, the rate that follows, and that nothing else is left of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
import torch
from left_behind import read_checkpoint

from ptv2_cli.errors import Interrupted, RunError
from ptv2_cli.multiplex import Sharing
from ptv2_cli.report.build import build_report
from ptv2_cli.report.pictures.plots import draw
from ptv2_cli.report.runs import find_runs
from ptv2_cli.runs import trainer
from ptv2_cli.runs.session import Session
from ptv2_cli.sweeps.estimate import Rates, _seconds
from ptv2_cli.training import lr_range
from ptv2_cli.training.events import RateFound, Started, StepDone
from ptv2_cli.training.loop import train_batch
from ptv2_cli.training.lr_curve import STEPS, RangeTest, rates_around

FolderOf = Callable[[str], Path]
AUTO = "train.lr=auto"
SECTIONS: dict[str, dict[str, Any]] = {
    "ptuning_v2": {},
    "finetune": {"method": "finetune", "prompt_len": None},
    "bitfit": {"method": "bitfit", "prompt_len": None, "train": {"steps": 6}},
    "checkpointed": {
        "method": {"name": "ptuning_v2", "reparam": "mlp", "reparam_hidden": 8},
        "train": {"steps": 6, "gradient_checkpointing": True, "precision": "bf16"},
    },
    "t5": {"train": {"steps": 6}},
    "accumulated": {"train": {"batch_size": 4, "accumulate": 2, "steps": 6, "average": 0.5}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("rte"))


@pytest.fixture
def config(folder_of: FolderOf, data: Path, tmp_path: Path) -> Path:
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data)


def curve(loss: Callable[[float], float], steps: int = STEPS) -> RangeTest:
    """The test of a run whose loss at a rate is known; the default is 1."""
    rates = rates_around(1.0)
    return RangeTest(1.0, tuple(rates), tuple(loss(rate) for rate in rates[:steps]))


def valley(least: float) -> Callable[[float], float]:
    """A loss that is least at a rate and rises on both sides of it."""
    return lambda rate: 1 + abs(math.log(rate / least))


def one_run(folder: Path) -> Path:
    (found,) = (path.parent for path in folder.glob("*/config.yaml"))
    return found


def contents(run: Path) -> tuple[Any, ...]:
    """What a run's rate decides: its weights, its predictions, its evaluations."""
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    for line in history:
        line.pop("train_seconds")
    weights = read_checkpoint(run / "checkpoints", "best").part("learner")
    return weights, (run / "predictions/validation.jsonl").read_bytes(), history


def assert_same(one: Path, other: Path) -> None:
    first, second = contents(one), contents(other)
    assert first[1:] == second[1:]
    assert all(torch.equal(value, second[0][name]) for name, value in first[0].items())


# The rule


@pytest.mark.parametrize("least", [0.1, 0.5, 1.0, 8.0])
def test_the_rate_is_the_middle_of_the_valley(least: float) -> None:
    found = curve(valley(least))
    assert found.found == pytest.approx(least, rel=0.1)
    assert found.rate == found.found
    assert found.failure is None


def test_a_flat_valley_is_entered_half_way() -> None:
    def loss(rate: float) -> float:
        return 1 + max(0.0, math.log(0.1 / rate), 3 * math.log(rate / 10)) - 0.01 * math.log(rate)

    assert curve(loss).found == pytest.approx(1.0, rel=0.3)  # the least is at 10


def test_a_fall_after_a_rise_does_not_count() -> None:
    def loss(rate: float) -> float:
        return min(valley(0.3)(rate), 3 - 2 * math.log(max(rate, 1.0)))

    assert loss(30) < loss(0.3) < loss(1.0)
    assert curve(loss).found == pytest.approx(0.3, rel=0.1)


def test_noise_of_single_steps_decides_little() -> None:
    smooth = valley(2.0)
    source = torch.Generator().manual_seed(0)
    noise = iter((0.4 * torch.randn(STEPS, generator=source)).tolist())
    noisy = curve(lambda rate: smooth(rate) + next(noise))
    assert noisy.found is not None
    assert 0.5 < noisy.found / 2.0 < 2


def test_a_loss_that_falls_to_the_end_gives_a_rate_near_the_end() -> None:
    falling = curve(lambda rate: 4 - math.log(rate))
    assert 10 < (falling.found or 0.0) < 20


def test_a_loss_that_never_falls_gives_the_default() -> None:
    flat = curve(lambda rate: 0.7 + 0.001 * rate)
    assert flat.found is None
    assert flat.rate == 1.0
    assert flat.failure == "the train loss fell at no rate from 3.3e-02 to 3.0e+01"


def test_a_loss_that_is_soon_not_finite_gives_the_default() -> None:
    short = curve(valley(1.0), steps=3)
    assert short.found is None
    assert short.failure == f"the loss was not finite, or too high, after 3 of {STEPS} steps"


def test_the_range_is_around_the_default() -> None:
    rates = rates_around(0.02)
    assert (rates[0], rates[-1]) == pytest.approx((0.02 / 30, 0.6))
    growth = {round(b / a, 9) for a, b in pairwise(rates)}
    assert len(growth) == 1


# The run


@pytest.mark.parametrize("section", SECTIONS)
def test_a_run_is_bit_for_bit_the_run_of_its_rate(
    section: str, folder_of: FolderOf, data: Path, tmp_path: Path
) -> None:
    model = folder_of("t5" if section == "t5" else "bert")
    config = tiny.write_config(tmp_path / "c.yaml", model, data, **SECTIONS[section])
    _, metrics = tiny.trained(config, tmp_path / "auto", AUTO)
    written = json.loads((one_run(tmp_path / "auto") / "lr_range.json").read_text())
    assert metrics["lr"] == written["rate"]
    assert metrics["config"]["train"]["lr"] == "auto"
    _, fixed = tiny.trained(config, tmp_path / "fixed", f"train.lr={metrics['lr']!r}")
    assert "lr" not in fixed
    assert not (one_run(tmp_path / "fixed") / "lr_range.json").exists()
    assert_same(one_run(tmp_path / "auto"), one_run(tmp_path / "fixed"))


@pytest.mark.parametrize("section", SECTIONS)
def test_the_test_puts_everything_back(
    section: str, folder_of: FolderOf, data: Path, tmp_path: Path
) -> None:
    model = folder_of("t5" if section == "t5" else "bert")
    config = tiny.write_config(tmp_path / "c.yaml", model, data, **SECTIONS[section])
    session = tiny.opened(config, tmp_path, AUTO)
    whole = {name: value.clone() for name, value in session.learner.state_dict().items()}
    generator = torch.get_rng_state()
    session.range_test(lambda steps: None)
    assert all(
        torch.equal(value, whole[name]) for name, value in session.learner.state_dict().items()
    )
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in session.learner.parameters())
    lane, other = session.new_lane(0.05), tiny.opened(config, tmp_path, AUTO).new_lane(0.05)
    for name, value in lane.state()[0].items():
        assert torch.equal(value, other.state()[0][name]), name
    assert lane.state()[0].keys() == other.state()[0].keys()
    stepped, fresh = (train_batch([each], Sharing()) for each in (lane, other))
    assert [float(done.loss) for _, done in stepped] == [float(done.loss) for _, done in fresh]


def test_it_steps_on_train_rows_alone(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    really = lr_range.train_batch

    def step(lanes: Any, sharing: Any) -> Any:
        seen.append(lanes[0].batches.features)
        return really(lanes, sharing)

    monkeypatch.setattr(lr_range, "train_batch", step)
    session = tiny.opened(config, tmp_path, AUTO)
    test = session.range_test(lambda steps: None)
    assert len(seen) == len(test.losses) + 1 <= STEPS + 1  # 24 rows: six batches, many times
    assert all(each is session.data.features("train") for each in seen)
    assert len(test.losses) > 6


def test_a_rate_of_the_head_stays_and_others_move_with_it(config: Path, tmp_path: Path) -> None:
    def peaks(*sets: str) -> dict[float, set[float]]:
        session = tiny.opened(config, tmp_path, AUTO, *sets)
        head = {id(parameter) for parameter in session.learner.own_parameters("head")}
        return {
            rate: {
                group["peak_lr"]
                for group in session.optimizer(rate).param_groups
                if id(group["params"][0]) in head
            }
            for rate in (0.1, 0.2)
        }

    assert peaks() == {0.1: {0.1}, 0.2: {0.2}}
    assert peaks("head.lr=0.03") == {0.1: {0.03}, 0.2: {0.03}}


def test_the_log_says_it_in_one_line(config: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    _, metrics = tiny.trained(config, tmp_path, AUTO, listen=events.append)
    (found,) = (event for event in events if isinstance(event, RateFound))
    assert found.rate == metrics["lr"]
    kinds = [type(event) for event in events]
    assert kinds.index(RateFound) < kinds.index(Started) < kinds.index(StepDone)
    log = (one_run(tmp_path) / "log.txt").read_text()
    lines = [line for line in log.splitlines() if "after a range test of" in line]
    assert len(lines) == 1
    assert f"learning rate {metrics['lr']:.3g}" in lines[0]


def test_a_resumed_run_keeps_its_rate(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.trained(config, tmp_path / "whole", AUTO)
    tests: list[int] = []
    really, taken = Session.range_test, 0
    batch = trainer.fit.__globals__["train_batch"]

    def counted(session: Session, tick: Any) -> Any:
        tests.append(1)
        return really(session, tick)

    def failing(*arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == 9:
            raise Interrupted(2)
        return batch(*arguments)

    monkeypatch.setattr(Session, "range_test", counted)
    with monkeypatch.context() as patch:
        patch.setitem(trainer.fit.__globals__, "train_batch", failing)
        with pytest.raises(Interrupted):
            tiny.trained(config, tmp_path / "cut", AUTO)
    _, metrics = tiny.trained(config, tmp_path / "cut", AUTO, resume=True)
    assert tests == [1]
    whole, cut = one_run(tmp_path / "whole"), one_run(tmp_path / "cut")
    assert metrics["lr"] == json.loads((whole / "metrics.json").read_text())["lr"]
    assert_same(whole, cut)
    assert json.loads((cut / "lr_range.json").read_text())["rate"] == metrics["lr"]


def test_a_test_that_is_stopped_leaves_a_run_that_begins_anew(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.trained(config, tmp_path / "whole", AUTO)
    really, taken = lr_range.train_batch, 0

    def failing(*arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == 9:
            raise Interrupted(2)
        return really(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(lr_range, "train_batch", failing)
        with pytest.raises(Interrupted):
            tiny.trained(config, tmp_path / "cut", AUTO)
    assert not (one_run(tmp_path / "cut") / "lr_range.json").exists()
    tiny.trained(config, tmp_path / "cut", AUTO, resume=True)
    assert_same(one_run(tmp_path / "whole"), one_run(tmp_path / "cut"))


def test_losses_that_say_nothing_give_the_default_and_a_warning(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lr_range, "_losses", lambda *rest: iter([0.7] * STEPS))
    session, metrics = tiny.trained(config, tmp_path, AUTO)
    assert metrics["lr"] == session.resolved.default_lr
    (warning,) = (text for text in metrics["warnings"] if "train.lr: auto" in text)
    assert "the train loss fell at no rate" in warning
    assert "; the default 0.01 is taken" in warning


def test_a_loss_that_is_not_finite_ends_the_test(config: Path, tmp_path: Path) -> None:
    session = tiny.opened(config, tmp_path, AUTO)
    session.learner.head.linear.weight.data.fill_(math.nan)
    test = session.range_test(lambda steps: None)
    assert test.losses == ()
    assert test.failure == f"the loss was not finite, or too high, after 0 of {STEPS} steps"
    assert test.plain()["curve"] == []


def test_each_lane_has_the_rate_that_it_has_alone(
    folder_of: FolderOf, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "CPU_ROWS", 64)
    seeds = [{"train": {"lr": "auto", "seed": seed, "steps": 8}} for seed in (11, 12)]
    fixed = {"train": {"steps": 12}}
    configs = laned.write(tmp_path / "configs", folder_of("bert"), data, fixed, *seeds)
    alone = laned.sweep(configs, tmp_path / "alone", 1)
    shared = laned.sweep(configs, tmp_path / "lanes", 3)
    assert shared.watch.most == 3
    for run, lane in zip(alone.runs, shared.runs, strict=True):
        laned.assert_same(run, lane)
        assert run.metrics.get("lr") == lane.metrics.get("lr")
    assert [run.metrics.get("lr") is None for run in shared.runs] == [True, False, False]


def test_an_estimate_counts_its_steps(config: Path, tmp_path: Path) -> None:
    rates = Rates(prompt_len=3, load=0.0, train=1.0, evaluate=0.0, tokens=10.0, rows=4.0)
    seconds = [_seconds(tiny.prepared(config, tmp_path, sets), [rates]) for sets in ((), (AUTO,))]
    per_step = 24 * 10.0 / 6
    assert seconds[1] - seconds[0] == pytest.approx(STEPS * per_step)


def test_another_word_is_refused(config: Path) -> None:
    text = tiny.problems(config, "train.lr=automatic")
    assert 'train.lr must be a number or the word auto, not the text "automatic"' in text


def test_the_report_draws_it(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tiny.trained(config, tmp_path / "runs", AUTO, "train.steps=6", "train.epochs=null")
    report = build_report(find_runs([tmp_path / "runs"]))
    drawn = {path.name for path in draw(report, tmp_path / "plots")}
    assert {"range-test-rte.svg", "range-test-rte.png"} <= drawn
    text = (tmp_path / "plots" / "range-test-rte.svg").read_text()
    rate = json.loads((one_run(tmp_path / "runs") / "lr_range.json").read_text())["rate"]
    assert f"ptuning_v2 p3, seed 11: {rate:.2g}" in text
    assert "learning rate (log scale)" in text
    (one_run(tmp_path / "runs") / "lr_range.json").write_text('{"curve": [{}], "rate": 1}')
    with pytest.raises(RunError, match="is no range test of a ptv2 run"):
        list(draw(report, tmp_path / "again"))
