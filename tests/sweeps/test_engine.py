"""Trials one after another: failures, what they share, what they leave in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny

from ptv2_cli.config.load import parse_set
from ptv2_cli.errors import Interrupted, MachineError, Problem
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.sinks.base import MakeSink
from ptv2_cli.sweeps import estimate, session_pool
from ptv2_cli.sweeps.axes import from_flags
from ptv2_cli.sweeps.engines import local
from ptv2_cli.sweeps.grid import make_combinations
from ptv2_cli.sweeps.records import Outcome
from ptv2_cli.sweeps.run import run_trials
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trials import Plan, Trial, plan_trials
from ptv2_cli.tasks.classification import Classification

SHORT = ["train.epochs=1"]


class Silent:
    """A view that remembers how trials ended."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def started(self, trial: Trial) -> MakeSink:
        return lambda run: tiny.Follower(lambda event: None)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


@pytest.fixture
def config(tmp_path: Path, folder_of: Callable[[str], Path]) -> Path:
    data = tiny.write_rte(tmp_path / "rte", train=8, validation=4)
    return tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data)


def ready(
    configs: Path | Sequence[Path],
    prompt_len: str | None = None,
    lr: str | None = None,
    seed: str | None = None,
    grid: Sequence[str] = (),
    sets: Sequence[str] = SHORT,
) -> Plan:
    paths = [configs] if isinstance(configs, Path) else list(configs)
    flags = from_flags(prompt_len, lr, seed, list(grid))
    combinations = make_combinations(paths, [parse_set(text) for text in sets], flags)
    return plan_trials(combinations, paths[0].parent / "runs", offline=True)


def carried_out(plan: Plan, output: Path) -> tuple[Store, list[Outcome]]:
    store, view = Store(plan, output), Silent()
    store.begin()
    store.write_plan()
    run_trials(store, laned.engine(plan), view)
    return store, view.outcomes


def statuses(store: Store) -> list[str]:
    return [store.outcomes[record.fingerprint].status for record in store.records]


def test_equal_runs_are_merged(config: Path) -> None:
    prepared = ready(config, "2,4", "5e-3,0.005", grid=["method=ptuning_v2,p_tuning_v2,finetune"])
    assert prepared.merged == 12 - 3
    shown = [dict(trial.record.values) for trial in prepared.trials]
    assert shown == [
        {"prompt_len": 2, "train.lr": 0.005, "method": "ptuning_v2"},
        {"prompt_len": None, "train.lr": 0.005, "method": "finetune"},
        {"prompt_len": 4, "train.lr": 0.005, "method": "ptuning_v2"},
    ]


def test_settings_differ_in_all_but_the_seed(config: Path) -> None:
    trials = ready(config, "2,4", seed="1,2").trials
    settings = [trial.record.setting for trial in trials]
    assert settings[0] == settings[1] != settings[2] == settings[3]


def test_the_base_is_what_all_trials_share(config: Path, folder_of: Any) -> None:
    base = ready(config, "2,4")
    assert ready(config, "8").fingerprint == base.fingerprint
    assert ready(config, "8", sets=[*SHORT, "prompt_len=5"]).fingerprint == base.fingerprint
    assert ready(config, "2,4", seed="1").fingerprint != base.fingerprint
    assert ready(config, "2,4", sets=["train.epochs=2"]).fingerprint != base.fingerprint
    rte = config.parent / "rte" / "train.jsonl"
    rte.write_text("".join(rte.read_text().splitlines(keepends=True)[:-2]))
    assert ready(config, "2,4").fingerprint != base.fingerprint


def test_another_copy_of_the_same_data_is_the_same_sweep(config: Path, tmp_path: Path) -> None:
    data = tiny.write_rte(tmp_path / "copy", train=8, validation=4)
    moved = ready(config, "2", sets=[*SHORT, f"task.data={data}"])
    assert moved.fingerprint == ready(config, "2").fingerprint


def test_data_is_read_once(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    encoded: list[int] = []
    really_read, really_encode = Classification.read, Classification.encode

    def counting(task: Any, source: Any, name: Any, limit: Any = None) -> Any:
        read.append(name)
        return really_read(task, source, name, limit)

    def encoding(task: Any, rows: Any, encoder: Any) -> Any:
        encoded.append(len(rows))
        return really_encode(task, rows, encoder)

    monkeypatch.setattr(Classification, "read", counting)
    monkeypatch.setattr(Classification, "encode", encoding)
    _, outcomes = carried_out(ready(config, "2,4", seed="1,2"), config.parent / "runs")
    assert [outcome.status for outcome in outcomes] == ["finished"] * 4
    assert sorted(read) == ["train", "validation"]
    assert sorted(encoded) == [4, 8]


def test_another_length_of_text_is_encoded_anew(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    really = Classification.encode

    def encoding(task: Any, rows: Any, encoder: Any) -> Any:
        lengths.append(encoder.max_len)
        return really(task, rows, encoder)

    monkeypatch.setattr(Classification, "encode", encoding)
    carried_out(ready(config, grid=["task.max_len=10,24"]), config.parent / "runs")
    assert sorted(lengths) == [10, 10, 24, 24]


def test_equal_to_runs_on_their_own(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    _, outcomes = carried_out(ready(config, "2,4", seed="1,2"), output)
    for trial, outcome in zip(ready(config, "2,4", seed="1,2").trials, outcomes, strict=True):
        sets = [*SHORT, f"prompt_len={trial.record.values['prompt_len']}"]
        sets.append(f"train.seed={trial.record.seed}")
        _, metrics = tiny.trained(config, tmp_path / "alone", *sets)
        assert metrics["fingerprint"] == trial.record.fingerprint
        assert metrics["selection"]["value"] == outcome.value
        assert outcome.run is not None
        ours, other = (
            folder / outcome.run / "predictions/validation.jsonl"
            for folder in (output, tmp_path / "alone")
        )
        assert ours.read_bytes() == other.read_bytes()


def test_failures_do_not_stop_the_others_and_are_tried_again(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = config.parent / "runs"
    really, calls = session_pool.open_session, []
    errors: dict[int, Exception] = {
        3: MemoryError(),
        4: RuntimeError("a bug"),
        5: RuntimeError("[enforce fail] can't allocate memory: you tried"),
    }

    def failing(resolved_run: ResolvedRun, *rest: Any) -> Any:
        calls.append(resolved_run.resolved.config.prompt_len)
        error = errors.get(resolved_run.resolved.config.prompt_len or 0)
        if error is not None:
            raise error
        return really(resolved_run, *rest)

    monkeypatch.setattr(session_pool, "open_session", failing)
    store, outcomes = carried_out(ready(config, "2,3,4,5,200,6"), output)
    assert statuses(store) == ["finished", "failed", "failed", "failed", "failed", "finished"]
    assert [outcome.reason for outcome in outcomes[2:5]] == [
        "out of memory", "a defect: RuntimeError: a bug", "out of memory",
    ]  # fmt: skip
    assert "halve train.batch_size" in (outcomes[2].hint or "")
    assert "Traceback" in (outcomes[3].traceback or "")
    assert "more than the 40 positions" in (outcomes[0].reason or "")
    assert calls == [2, 3, 4, 5, 6]

    del errors[3]
    store, outcomes = carried_out(ready(config, "2,3,4,5,200,6"), output)
    assert calls == [2, 3, 4, 5, 6, 3, 4, 5]
    assert statuses(store) == ["finished", "finished", "failed", "failed", "failed", "finished"]
    assert [outcome.attempts for outcome in outcomes] == [2, 1, 2, 2]


def test_a_refused_trial_that_can_run_now_is_not_shown_twice(config: Path) -> None:
    output = config.parent / "runs"
    here = [*SHORT, f"sweep={{grid: {{task.data: [{config.parent}/rte, {config.parent}/later]}}}}"]
    store, _ = carried_out(ready(config, sets=here), output)
    assert statuses(store) == ["finished", "failed"]
    tiny.write_rte(config.parent / "later", train=12, validation=4)
    store, _ = carried_out(ready(config, sets=here), output)
    assert statuses(store) == ["finished", "finished"]


def test_a_full_disk_stops_the_sweep(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> Any:
        raise MachineError(Problem("runs", "the disk is full"))

    monkeypatch.setattr(local.Trainer, "add", full)
    with pytest.raises(MachineError, match="the disk is full"):
        carried_out(ready(config, "2,4"), config.parent / "runs")


def test_a_signal_between_steps_is_noted(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(session_pool, "open_session", interrupted)
    with pytest.raises(Interrupted) as raised:
        carried_out(ready(config, "2,4"), config.parent / "runs")
    assert raised.value.exit_code == 130
    assert "0 of 2 trials are done and kept" in str(raised.value)


def test_memory_is_freed_between_trials(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learners: list[weakref.ref[Any]] = []
    texts: list[weakref.ref[Any]] = []
    alive: list[int] = []
    texts_alive: list[int] = []
    really = session_pool.open_session

    def counting(resolved_run: ResolvedRun, *rest: Any) -> Any:
        alive.append(sum(learner() is not None for learner in learners))
        texts_alive.append(sum(text() is not None for text in texts))
        session = really(resolved_run, *rest)
        texts.append(weakref.ref(session.data))
        learners.append(weakref.ref(session.learner))
        if len(learners) == 2:
            raise MemoryError  # a failed trial must not hold its model either
        return session

    monkeypatch.setattr(session_pool, "open_session", counting)
    prepared = ready(config, "2,3,4,5")
    carried_out(prepared, config.parent / "runs")
    gc.collect()
    assert alive == [0, 0, 0, 0]
    assert max(texts_alive) <= 1  # that of the last trial serves the next
    assert not any(text() is not None for text in texts)


def test_estimate_scales_with_steps_and_needs_no_folder(config: Path) -> None:
    prepared = ready(config, "2,12", grid=["train.epochs=1,1000"], sets=())
    resolved_runs = [t.resolved_run for t in prepared.trials if t.resolved_run is not None]
    found = estimate.estimate(resolved_runs, session_pool.SessionPool(tiny.CPU))
    assert found is not None
    seconds = [found[run.fingerprint] for run in resolved_runs]
    assert seconds[1] > 2 * seconds[0]
    assert all(value > 0 for value in seconds)
    assert not (config.parent / "runs").exists()


def test_rates_between_the_timed_prompts_lie_on_a_line() -> None:
    low = estimate.Rates(10, load=1.0, train=2.0, evaluate=1.0, tokens=5.0, rows=8.0)
    high = estimate.Rates(110, load=1.0, train=4.0, evaluate=2.0, tokens=5.0, rows=8.0)
    middle = estimate._between([high, low], 60)
    assert (middle.train, middle.evaluate, middle.load) == (3.0, 1.5, 1.0)
    assert estimate._between([low], 500).train == 2.0


def test_an_estimate_of_trials_that_cannot_run_is_none(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(session_pool, "open_session", failing)
    resolved_runs = [
        t.resolved_run for t in ready(config, "2").trials if t.resolved_run is not None
    ]
    assert estimate.estimate(resolved_runs, session_pool.SessionPool(tiny.CPU)) is None
