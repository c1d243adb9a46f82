"""A search over real tiny runs: what is trained, pruned, killed, continued and told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
import yaml
from laned import Watch

pytest.importorskip("optuna")

from ptv2_cli.config.load import parse_set
from ptv2_cli.errors import ConfigError, Interrupted
from ptv2_cli.sweeps.engine import EngineContext
from ptv2_cli.sweeps.engines.local import LocalEngine
from ptv2_cli.sweeps.options import LaneRequest, requested_search
from ptv2_cli.sweeps.run import run_trials
from ptv2_cli.sweeps.search import Search, plan_search
from ptv2_cli.sweeps.search_options import search_options
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.study import Study
from ptv2_cli.training.events import EvalDone, StepDone

TRAIN = {"steps": 4, "eval_every": 2}
RATES = {"train.lr": {"log": [1e-4, 1e-1]}}


@pytest.fixture
def config(tmp_path: Path, folder_of: Callable[[str], Path]) -> Path:
    rte = tiny.write_rte(tmp_path / "rte", train=8, validation=4)
    (path,) = laned.write(tmp_path, folder_of("bert"), rte, {"prompt_len": 2}, train=TRAIN)
    return path


class Searched:
    """A search that was carried out, or interrupted."""

    def __init__(
        self, config: Path, output: Path, sweep: dict[str, Any], *, lanes: int = 1,
        watch: Watch | None = None, sets: Sequence[str] = (),
    ) -> None:  # fmt: skip
        content = {**yaml.safe_load(config.read_text()), "sweep": sweep}
        config.write_text(yaml.safe_dump(content, sort_keys=False))
        base = [parse_set(text) for text in sets]
        said = requested_search({}, [config], base)
        options = search_options(said)
        assert options is not None
        request = LaneRequest(lanes, "--lanes")
        context = EngineContext(device="cpu", offline=True, lanes=request)
        self.search: Search = plan_search([config], base, [], said, options, output, context)
        self.store = Store(self.search.plan, output)
        self.watch = watch or Watch()
        self.output = output
        self.store.begin()
        self.search.begin(self.store)
        run_trials(self.store, LocalEngine(context), self.watch, search=self.search)

    @property
    def values(self) -> list[dict[str, Any]]:
        """Of all trials, in the order in which they were asked for."""
        return [dict(record.values) for record in self.store.records]

    @property
    def statuses(self) -> list[str]:
        return [self.store.outcomes[record.fingerprint].status for record in self.store.records]

    @property
    def scores(self) -> list[float | None]:
        return [self.store.outcomes[record.fingerprint].value for record in self.store.records]


def study(searched: Searched) -> list[tuple[str, Any]]:
    """State and value of every trial of the study, as its journal has them."""
    found = searched.search._study._study.get_trials()
    return [(trial.state.name, trial.value) for trial in found]


def test_it_trains_what_the_study_asks_for(config: Path, tmp_path: Path) -> None:
    sweep = {"search": "tpe", "trials": 4, "space": {**RATES, "prompt_len": [2, 3]}}
    done = Searched(config, tmp_path / "runs", sweep)
    assert done.statuses == ["finished"] * 4
    assert study(done) == [("COMPLETE", value) for value in done.scores]
    assert len(done.watch.order) == 4
    for name, values in zip(done.watch.order, done.values, strict=True):
        content = yaml.safe_load((tmp_path / "runs" / name / "config.yaml").read_text())
        assert content["train"]["lr"] == values["train.lr"]
        assert content["prompt_len"] == values["prompt_len"]
        assert content["sweep"] is None
    plan = json.loads((done.store.folder / "plan.json").read_text())
    assert [trial["values"] for trial in plan["trials"]] == done.values
    # The same command trains nothing; a larger number goes on where it was.
    again = Searched(config, tmp_path / "runs", sweep)
    assert again.watch.order == []
    assert again.store.folder == done.store.folder
    more = Searched(config, tmp_path / "runs", {**sweep, "trials": 5})
    assert len(more.watch.order) == 1
    assert more.values[:4] == done.values


@pytest.mark.parametrize("lanes", [1, 2])
def test_killed_and_continued(
    lanes: int, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = {"search": "tpe", "trials": 5, "space": RATES, "prune": "median"}
    whole = Searched(config, tmp_path / "whole", sweep, lanes=lanes)
    killed = Watch()
    really = Search.should_stop

    def stopping(self: Search, trial: Any, evaluation: EvalDone) -> bool:
        if trial.number == 3 and evaluation.step == 2:
            raise KeyboardInterrupt
        return really(self, trial, evaluation)

    with monkeypatch.context() as patch:
        patch.setattr(Search, "should_stop", stopping)
        with pytest.raises(Interrupted):
            Searched(config, tmp_path / "runs", sweep, lanes=lanes, watch=killed)
    done = list(killed.outcomes)
    after = Watch()
    again = Searched(config, tmp_path / "runs", sweep, lanes=lanes, watch=after)
    assert not set(after.order) & set(done)  # none is trained twice
    assert again.statuses == whole.statuses
    if lanes == 1:  # lanes may end in another order when they start together again
        assert again.values == whole.values
        assert again.scores == whole.scores
        assert study(again) == study(whole)


def test_a_trial_that_ended_is_told_after_a_kill(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = {"search": "random", "trials": 3, "space": RATES}
    really = Study.tell

    def killed(self: Study, number: int, *rest: Any) -> None:
        if number == 1:
            raise KeyboardInterrupt
        really(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", killed)
        with pytest.raises(Interrupted):
            Searched(config, tmp_path / "runs", sweep)
    again = Searched(config, tmp_path / "runs", sweep)
    assert len(again.watch.order) == 1  # the third
    assert study(again) == [("COMPLETE", value) for value in again.scores]
    assert len(again.scores) == 3


def test_an_evaluation_that_a_dead_process_repeats_is_counted_once(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster, where a task goes on from a save before what it has told already."""
    sweep = {"search": "random", "trials": 1, "space": RATES, "prune": "median"}
    reported: list[tuple[int, float]] = []
    report, really = Study.report, Search.should_stop

    def reports(self: Study, number: int, evaluation: int, value: float) -> None:
        reported.append((evaluation, value))
        report(self, number, evaluation, value)

    def twice(self: Search, trial: Any, evaluation: EvalDone) -> bool:
        really(self, trial, evaluation)
        return really(self, trial, evaluation)

    monkeypatch.setattr(Study, "report", reports)
    monkeypatch.setattr(Search, "should_stop", twice)
    searched = Searched(config, tmp_path / "runs", sweep)
    assert searched.statuses == ["finished"]
    assert [evaluation for evaluation, _ in reported] == [1, 1, 2, 2]


def test_a_pruned_trial_leaves_its_place(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = {"search": "random", "trials": 5, "space": RATES, "prune": "hyperband"}
    monkeypatch.setattr(Study, "gives_up", lambda self, number: number in (1, 3))
    done = Searched(config, tmp_path / "runs", sweep, lanes=2)
    assert done.statuses == ["finished", "pruned", "finished", "pruned", "finished"]
    assert done.watch.most == 2
    assert [state for state, _ in study(done)] == [
        "COMPLETE", "PRUNED", "COMPLETE", "PRUNED", "COMPLETE",
    ]  # fmt: skip
    first, pruned, third = done.watch.order[:3]
    begun = [event.step for event in done.watch.of(first, StepDone)]
    assert begun == [1, 2, 3, 4]
    assert [event.step for event in done.watch.of(pruned, StepDone)] == [1, 2]
    assert [event.step for event in done.watch.of(third, StepDone)] == [1, 2, 3, 4]
    assert not (tmp_path / "runs" / pruned / "metrics.json").exists()
    (board,) = done.store.leaderboards()
    assert board.best is not None
    assert board.best.records[0].fingerprint not in pruned
    assert sum(setting.pruned for setting in board.settings) == 2
    again = Searched(config, tmp_path / "runs", sweep, lanes=2)
    assert again.watch.order == []
    # A sweep that finishes it: it goes on from its checkpoint.
    rate = done.values[1]["train.lr"]
    watch = Watch()
    whole = laned.sweep(
        [config], tmp_path / "runs", 1, "sweep=null", grid=f"train.lr={rate}", watch=watch
    )
    assert whole.statuses == ["finished"]
    assert [event.step for event in watch.of(pruned, StepDone)] == [3, 4]


def test_seeds_are_averaged(config: Path, tmp_path: Path) -> None:
    sweep = {"search": "random", "trials": 2, "space": RATES, "seed": [11, 12]}
    done = Searched(config, tmp_path / "runs", sweep)
    assert [record.seed for record in done.store.records] == [11, 12, 11, 12]
    one, two, three, four = (score or 0.0 for score in done.scores)
    assert study(done) == [("COMPLETE", (one + two) / 2), ("COMPLETE", (three + four) / 2)]


def test_one_run_of_several_settings_is_trained_once(config: Path, tmp_path: Path) -> None:
    sweep = {
        "search": "grid",
        "space": {"method": ["ptuning_v2", "finetune"], "prompt_len": [2, 3]},
    }
    done = Searched(config, tmp_path / "runs", sweep)
    assert len(done.watch.order) == 3  # a prompt length means nothing to finetune
    states = study(done)
    assert [state for state, _ in states] == ["COMPLETE"] * 4
    assert states[2] == states[3]


def test_what_cannot_run_fails_and_is_tried_again(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = {"search": "grid", "space": {"prompt_len": [2, 200]}}
    done = Searched(config, tmp_path / "runs", sweep)
    assert done.statuses == ["finished", "failed"]
    assert [trial.record.values for trial in done.search.refused] == [{"prompt_len": 200}]
    assert [state for state, _ in study(done)] == ["COMPLETE", "FAIL"]
    again = Searched(config, tmp_path / "runs", sweep)
    assert again.watch.order == []
    assert [state for state, _ in study(again)] == ["COMPLETE", "FAIL", "FAIL"]
    assert again.search.over == ""


def test_one_that_diverges_is_worse_than_all(config: Path, tmp_path: Path) -> None:
    sweep = {"search": "grid", "space": {"train.lr": [0.01, 1e30]}}
    done = Searched(config, tmp_path / "runs", sweep)
    assert done.statuses == ["finished", "diverged"]
    assert [state for state, _ in study(done)] == ["COMPLETE", "PRUNED"]


def test_no_setting_starts_after_the_time(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("ptv2_cli.sweeps.search.time.monotonic", lambda: clock[0])
    watch = Watch()

    def told(name: str, event: Any) -> None:
        clock[0] += 10.0 if isinstance(event, StepDone) else 0.0

    watch.told = told
    sweep = {"search": "random", "time": "1m", "space": RATES}
    done = Searched(config, tmp_path / "runs", sweep, watch=watch)
    assert done.statuses == ["finished"] * 2  # 40 seconds each
    assert done.search.over == "time"
    # The time is that of all commands.
    clock[0] = 0.0
    again = Searched(config, tmp_path / "runs", sweep)
    assert again.watch.order == []
    longer = Searched(config, tmp_path / "runs", {**sweep, "time": "81s"}, watch=watch)
    assert len(longer.statuses) == 3


def test_the_time_of_an_interrupted_setting_counts(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = {"search": "random", "time": "1h", "trials": 1, "space": RATES}
    really = Search.should_stop

    def stopping(self: Search, trial: Any, evaluation: EvalDone) -> bool:
        really(self, trial, evaluation)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Search, "_seconds", lambda self: 7.0)
        patch.setattr(Search, "should_stop", stopping)
        with pytest.raises(Interrupted):
            Searched(config, tmp_path / "runs", sweep)
    again = Searched(config, tmp_path / "runs", sweep)
    assert again.statuses == ["finished"]
    assert again.search._before == 7.0


def test_another_space_is_another_search(config: Path, tmp_path: Path) -> None:
    def folder(**sweep: Any) -> Path:
        return Searched(config, tmp_path / "runs", {"trials": 1, **sweep}).store.folder

    first = folder(search="random", space=RATES)
    assert folder(search="random", space=RATES, prune="median") == first
    assert folder(search="tpe", space=RATES) != first
    assert folder(search="random", space={"train.lr": {"log": [1e-3, 1e-1]}}) != first


def test_a_pruner_needs_evaluations(config: Path, tmp_path: Path) -> None:
    sweep = {"search": "tpe", "trials": 2, "space": RATES, "prune": "median"}
    with pytest.raises(ConfigError, match="nothing to judge by") as raised:
        Searched(config, tmp_path / "runs", sweep, sets=["train.eval_every=4"])
    assert "eval_every" in raised.value.problems[0].hint
    assert not (tmp_path / "runs").exists()
