"""The engine seam: specs and results are data, and a stranger's engine can run them elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import laned
import pytest
import tiny
from left_behind import assert_bit_equal

from ptv2_cli.errors import ConfigError, RunError
from ptv2_cli.registry import ENGINES
from ptv2_cli.sweeps.engine import (
    EngineContext,
    Forecast,
    Monitor,
    SilentMonitor,
    TrialResult,
    TrialSpec,
    prepare_spec,
)
from ptv2_cli.sweeps.engines.local import LocalEngine
from ptv2_cli.sweeps.run import run_trials
from ptv2_cli.sweeps.store import Store

WORKER = """
import pickle, sys
from ptv2_cli.sweeps.engines.local import run_trial
spec = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps(run_trial(spec, device="cpu", offline=True)))
"""


class Elsewhere:
    """An engine that runs every trial in a process of its own, in another working folder."""

    def __init__(self, context: EngineContext) -> None:
        self.folder = Path(os.environ["TMPDIR"])

    def forecast(self, trials: Sequence[TrialSpec], *, timed: bool = True) -> Forecast:
        return Forecast()

    def run(
        self, trials: Iterable[TrialSpec], monitor: Monitor
    ) -> Generator[TrialResult, None, None]:
        for trial in trials:
            monitor.started(trial)
            done = subprocess.run(
                [sys.executable, "-c", WORKER],
                input=pickle.dumps(trial),
                capture_output=True,
                check=True,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            result: TrialResult = pickle.loads(done.stdout)
            yield result


@pytest.fixture
def configs(tmp_path: Path, folder_of: Callable[[str], Path]) -> list[Path]:
    rte = tiny.write_rte(tmp_path / "rte", train=12, validation=6)
    # Its prompt length means nothing to finetune, which is a note of the run's.
    other = {"method": "finetune", "prompt_len": 2}
    train = {"steps": 4, "eval_every": 2}
    return laned.write(tmp_path, folder_of("bert"), rte, {"prompt_len": 2}, other, train=train)


def specs(configs: Sequence[Path], output: Path) -> list[TrialSpec]:
    return [trial.spec for trial in laned.plan(configs, output).trials]


def test_a_spec_is_plain_data(configs: list[Path], tmp_path: Path) -> None:
    for number, spec in enumerate(specs(configs, tmp_path / "runs"), 1):
        assert spec.number == number
        assert pickle.loads(pickle.dumps(spec)) == spec
        assert json.loads(json.dumps(spec.config)) == spec.config
        assert Path(spec.output).is_absolute()
        run = prepare_spec(spec, offline=True)
        assert run.directory.path == tmp_path / "runs" / spec.name
        assert run.resolved.config.model_dump(mode="json") == spec.config
        assert run.resolved.notes == spec.notes
    assert "prompt_len" in spec.notes[0]


def test_an_engine_elsewhere_leaves_the_same_run_directories(
    configs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    here = laned.sweep(configs, tmp_path / "here", 1)
    plan = laned.plan(configs, tmp_path / "there")
    there = laned.Swept(plan, Store(plan, tmp_path / "there"), laned.Watch())
    there.store.begin()
    run_trials(there.store, Elsewhere(EngineContext()), there.watch)
    assert there.statuses == here.statuses == ["finished"] * 2
    for one, other in zip(here.runs, there.runs, strict=True):
        assert_bit_equal(one.folder, other.folder)
    assert any("prompt_len" in text for text in there.runs[1].metrics["warnings"])
    assert [outcome.value for outcome in there.store.outcomes.values()] == [
        outcome.value for outcome in here.store.outcomes.values()
    ]


def test_a_machine_with_other_data_refuses_the_trial(configs: list[Path], tmp_path: Path) -> None:
    spec = specs(configs, tmp_path / "runs")[0]
    rows = tmp_path / "rte" / "train.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(RunError, match="would be another run here") as raised:
        prepare_spec(spec, offline=True)
    assert "copy the data" in str(raised.value)
    (result,) = LocalEngine(EngineContext(device="cpu")).run([spec], SilentMonitor())
    assert result.outcome.status == "failed"
    assert "would be another run here" in (result.outcome.reason or "")
    assert not (tmp_path / "runs").exists()


def test_trials_are_taken_one_at_a_time(configs: list[Path], tmp_path: Path) -> None:
    taken: list[str] = []
    ended: list[str] = []

    def search() -> Iterable[TrialSpec]:
        for spec in specs(configs, tmp_path / "runs"):
            assert len(ended) == len(taken)  # the next one may depend on the results
            taken.append(spec.fingerprint)
            yield spec

    engine = LocalEngine(EngineContext(device="cpu", offline=True))
    for result in engine.run(search(), SilentMonitor()):
        ended.append(result.fingerprint)
    assert len(taken) == 2
    assert ended == taken


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_search_fills_each_lane_as_it_gets_free(
    lanes: int, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    rte = tiny.write_rte(tmp_path / "rte", train=12, validation=6)
    lengths = [{"prompt_len": length, "train": {"steps": 4}} for length in (2, 3, 4)]
    # Its first step is its last, so its place is free before those of the others.
    lengths[0]["train"] = {"steps": 2}
    alone = {"method": "finetune", "prompt_len": None}
    configs = laned.write(
        tmp_path, folder_of("bert"), rte, *lengths, alone, {"prompt_len": 5},
        train={"steps": 4, "eval_every": 2},
    )  # fmt: skip
    plan = laned.plan(configs, tmp_path / "runs")
    ended: list[str] = []
    seen: list[int] = []
    """How many had ended when each trial was asked for."""

    def search() -> Iterator[TrialSpec]:
        for trial in plan.trials:
            seen.append(len(ended))
            yield trial.spec

    for result in laned.engine(plan, lanes).run(search(), SilentMonitor()):
        assert result.outcome.status == "finished"
        ended.append(result.fingerprint)
    # The fourth shares nothing with the others: it waits until they have ended, the fifth for it.
    assert seen == {1: [0, 1, 2, 3, 4], 2: [0, 0, 1, 2, 3]}[lanes]
    assert ended == [trial.spec.fingerprint for trial in plan.trials]


def test_a_sweep_that_stops_closes_its_engine(configs: list[Path], tmp_path: Path) -> None:
    class Full(laned.Watch):
        def ended(self, *told: object) -> None:
            raise OSError("no room for results")

    plan = laned.plan(configs, tmp_path / "runs")
    store = Store(plan, tmp_path / "runs")
    store.begin()
    watch = Full()
    with pytest.raises(OSError, match="no room"):
        run_trials(store, laned.engine(plan), watch)
    assert len(watch.order) == 1
    assert not watch.running


def test_engines_are_known_by_name() -> None:
    assert ENGINES.load("local") is LocalEngine
    with pytest.raises(ConfigError, match="unknown engine 'lokal'") as raised:
        ENGINES.canonical("lokal", "--engine")
    assert "local" in raised.value.problems[0].hint


def test_a_changed_spec_is_another_run(configs: list[Path], tmp_path: Path) -> None:
    spec = specs(configs, tmp_path / "runs")[0]
    changed = replace(spec, config={**spec.config, "prompt_len": 3})
    with pytest.raises(RunError, match=spec.fingerprint):
        prepare_spec(changed, offline=True)
