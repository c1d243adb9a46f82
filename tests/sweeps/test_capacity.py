"""How many lanes: what they take of memory, what they gain in speed."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from test_engine import ready

from ptv2_cli.errors import BackboneError, ConfigError
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.rows.encoding import EncodedData
from ptv2_cli.runs.session import Session
from ptv2_cli.runs.trainer import CPU_ROWS
from ptv2_cli.sweeps import capacity, memory_estimate, session_pool
from ptv2_cli.sweeps.capacity import LaneGroup, lane_groups
from ptv2_cli.sweeps.memory_estimate import Need, largest, need_of
from ptv2_cli.sweeps.options import LaneRequest
from ptv2_cli.sweeps.session_pool import SessionPool
from ptv2_cli.sweeps.trials import Plan

CUDA = torch.device("cuda")


@pytest.fixture
def config(tmp_path: Path, folder_of: Callable[[str], Path]) -> Path:
    data = tiny.write_rte(tmp_path / "rte", train=16, validation=4)
    return tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data)


class Rates(dict[int, float]):
    """Number of lanes -> rows a second."""

    timed: list[int]


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Rates:
    found = Rates()
    found.timed = []

    def rate(lanes: list[Any]) -> float:
        found.timed.append(len(lanes))
        return found[len(lanes)]

    monkeypatch.setattr(capacity, "_rate", rate)
    return found


def sizes(config: Path, lanes: Any, **lists: Any) -> list[tuple[int, int, float | None]]:
    found = grouped(ready(config, **lists), lanes)
    return [(len(group.runs), group.lanes, group.speedup) for group in found]


def grouped(plan: Plan, lanes: Any, where: str = "") -> list[LaneGroup]:
    runs = [trial.resolved_run for trial in plan.trials if trial.resolved_run is not None]
    return lane_groups(runs, LaneRequest(lanes, where), SessionPool(tiny.CPU))


def test_passes_of_a_cpu_hold_some_lanes_of_a_device_all() -> None:
    lane = Need(own=10, batch=1000, rows=8)
    assert CPU_ROWS == 16
    assert lane.total(8, tiny.CPU) == 8 * 10 + 2 * 1000
    assert lane.total(8, CUDA) == 8 * 10 + 8 * 1000
    assert Need(10, 1000, 100).total(8, tiny.CPU) == 8 * 10 + 1000


def test_how_many_fit() -> None:
    lane = Need(own=100, batch=900, rows=8)
    assert lane.fits(10_000, CUDA) == 9  # nine tenths of what is free
    assert lane.fits(500, CUDA) == 1
    assert lane.fits(10_000, tiny.CPU) == (9_000 - 1_800) // 100
    assert lane.fits(None, CUDA) == memory_estimate.MOST


def test_the_largest_of_each_part() -> None:
    assert largest([Need(1, 9, 4), Need(5, 2, 8)]) == Need(5, 9, 8)


def test_a_need_is_measured(config: Path) -> None:
    def measured(*sets: str) -> Need:
        (trial,) = ready(config, sets=["train.epochs=1", *sets], seed="11").trials
        assert trial.resolved_run is not None
        opener = SessionPool(tiny.CPU)
        session = opener.open(trial.resolved_run)
        found = need_of(session)
        trained = session.learner.counts()["trainable"]
        assert found.own == 16 * trained
        return found

    small, large = measured("train.batch_size=4"), measured("train.batch_size=16")
    assert (small.rows, large.rows) == (4, 16)
    assert 4 * small.batch - large.batch < 20_000  # rows count; the weights are there anyway
    upper = measured("train.batch_size=16", "method={name: ptuning_v2, layers: last:1}")
    assert upper.batch < 0.6 * large.batch  # no graph below the lowest prompt
    half = measured("train.batch_size=16", "train.precision=bf16")
    assert half.batch < large.batch


def test_auto_goes_on_as_long_as_it_is_faster(config: Path, rates: Rates) -> None:
    rates.update({1: 100.0, 2: 190.0, 4: 300.0, 6: 320.0})
    assert sizes(config, "auto", seed="1,2,3,4,5,6") == [(6, 4, 3.0)]
    assert rates.timed == [1, 2, 4, 6]


def test_auto_stays_with_one_where_more_gain_nothing(config: Path, rates: Rates) -> None:
    rates.update({1: 100.0, 2: 105.0})
    assert sizes(config, "auto", seed="1,2,3,4") == [(4, 1, 1.0)]
    assert rates.timed == [1, 2]


def test_auto_takes_no_more_than_fit(
    config: Path, rates: Rates, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates.update({1: 100.0, 2: 200.0, 3: 300.0, 4: 400.0})
    monkeypatch.setattr(Need, "fits", lambda *words: 3)
    assert sizes(config, "auto", seed="1,2,3,4") == [(4, 3, 3.0)]
    assert rates.timed == [1, 2, 3]


def test_auto_goes_back_where_memory_gives_out(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rate(lanes: list[Any]) -> float:
        if len(lanes) > 2:
            raise MemoryError
        return 100.0 * len(lanes)

    monkeypatch.setattr(capacity, "_rate", rate)
    assert sizes(config, "auto", seed="1,2,3,4") == [(4, 2, 2.0)]


def test_a_number_is_taken(config: Path, rates: Rates) -> None:
    assert sizes(config, 3, seed="1,2,3,4") == [(4, 3, None)]
    assert sizes(config, 3, seed="1") == [(1, 1, None)]
    assert sizes(config, 1, seed="1,2") == [(1, 1, None)] * 2
    assert not rates.timed


def test_measuring_keeps_nothing(config: Path) -> None:
    (trial,) = ready(config, seed="11").trials
    assert trial.resolved_run is not None
    session = SessionPool(tiny.CPU).open(trial.resolved_run)
    graphs: list[weakref.ref[Any]] = []

    def note(module: Any, args: Any, output: Any) -> None:
        graphs.append(weakref.ref(output[0] if isinstance(output, tuple) else output))

    for module in session.learner.backbone.modules():
        module.register_forward_hook(note)
    need_of(session)
    gc.collect()
    assert graphs
    assert not [graph for graph in graphs if graph() is not None]


def test_more_lanes_than_memory_takes(
    config: Path, rates: Rates, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ready(config, seed="1,2,3,4")
    assert plan.trials[0].resolved_run is not None
    one = need_of(SessionPool(tiny.CPU).open(plan.trials[0].resolved_run))
    monkeypatch.setattr(
        capacity, "free_bytes", lambda device: one.total(3, device) / memory_estimate.SHARE
    )
    with pytest.raises(ConfigError) as refused:
        grouped(plan, 4, "--lanes 4")
    told = str(refused.value)
    assert re.search(r"^--lanes 4: 4 lanes would take about .* are free: 3 fit\n", told)
    assert "-> --lanes 3, or --lanes auto" in told
    assert not rates.timed


def test_trials_that_cannot_begin_are_no_hindrance(
    config: Path, rates: Rates, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates.update({1: 100.0, 2: 200.0})
    plan = ready(config, "2,4,6", seed="1")
    really = session_pool.open_session

    def failing(run: ResolvedRun, *rest: Any) -> Any:
        if run.resolved.config.prompt_len == 6:
            raise BackboneError.at("c.yaml", "cannot be prompted")
        return really(run, *rest)

    monkeypatch.setattr(session_pool, "open_session", failing)
    rates[3] = 300.0
    assert [(len(group.runs), group.lanes) for group in grouped(plan, "auto")] == [(3, 2)]


def test_rates_are_of_rows_really_trained(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[float] = []
    rate = capacity._rate
    monkeypatch.setattr(capacity, "_rate", lambda lanes: timed.append(rate(lanes)) or timed[-1])
    passes: list[int] = []
    really = capacity.train_batch
    monkeypatch.setattr(
        capacity, "train_batch", lambda lanes, how: passes.append(len(lanes)) or really(lanes, how)
    )
    ((_, places, faster),) = sizes(config, "auto", seed="1,2", sets=["train.accumulate=2"])
    whole = 2 * (capacity.STEPS + 1)  # two passes make a step
    assert passes == [1] * whole + [2] * whole
    assert len(timed) == 2
    assert all(found > 10 for found in timed)
    assert faster == pytest.approx(timed[places - 1] / timed[0])


def test_nothing_of_the_rehearsal_stays(
    config: Path, rates: Rates, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates.update({1: 100.0, 2: 200.0})
    texts: list[weakref.ref[EncodedData]] = []
    really = session_pool.open_session

    def opened(*asked: Any) -> Session:
        session = really(*asked)
        texts.append(weakref.ref(session.data))
        return session

    monkeypatch.setattr(session_pool, "open_session", opened)
    prepared = ready(config, seed="1,2")
    before = torch.get_rng_state()
    grouped(prepared, "auto")
    assert torch.equal(before, torch.get_rng_state())
    assert not (config.parent / "runs").exists()
    gc.collect()
    assert len(texts) == 2
    assert sum(text() is not None for text in texts) <= 1  # the opener keeps one for the next


def test_what_is_over_holds_no_text(config: Path) -> None:
    one, other = (trial.resolved_run for trial in ready(config, seed="1,2").trials)
    assert one is not None
    assert other is not None
    opener = SessionPool(tiny.CPU)
    first = opener.open(one)
    first.data.features("train")
    second = opener.open(other)
    assert first.data.features("train") is second.data.features("train")
    text = weakref.ref(first.data)
    del first
    opener.close(one)
    assert text() is None
    assert second.data.by_split
