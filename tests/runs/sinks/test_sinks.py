"""Sinks: what follows a run, how it ends, and what becomes of one that fails."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ptv2_cli.errors import ConfigError, Interrupted, RunError, StoppedAtOnce
from ptv2_cli.runs.lock import locked
from ptv2_cli.runs.recorder import RunRecorder
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.trainer import Trainer, train
from ptv2_cli.runs.training_record import TrainingRecord
from ptv2_cli.training.events import EvalDone, Finished, Started, StepDone, Stopped, Warned

SHORT = ("train.epochs=1",)


@pytest.fixture
def config(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    data = tiny.write_rte(tmp_path / "rte", train=8, validation=4)
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data)


class Recording:
    """A sink that keeps its events; `on` calls `act` too."""

    def __init__(self, act: Callable[[Any], None] = lambda event: None) -> None:
        self.act = act
        self.run: ResolvedRun | None = None
        self.events: list[Any] = []
        self.closed = 0

    def __call__(self, run: ResolvedRun) -> Recording:
        self.run = run
        return self

    def on(self, event: Any) -> None:
        assert not self.closed
        self.events.append(event)
        self.act(event)

    def close(self) -> None:
        self.closed += 1

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def on_step(step: int, act: Callable[[], Any]) -> Callable[[Any], None]:
    """Act at one step."""
    return lambda event: act() if isinstance(event, StepDone) and event.step == step else None


def about_sinks(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if "sink" in text]


def broken() -> None:
    raise ValueError("no connection\nand more")


def test_a_sink_gets_every_event_and_the_content_of_metrics_json(
    config: Path, tmp_path: Path
) -> None:
    sink = Recording()
    session = tiny.opened(config, tmp_path / "runs", *SHORT)
    metrics = train(session, [sink])
    assert sink.run is session.resolved_run
    assert [type(event) for event in sink.events[:2]] == [Started, StepDone]
    assert len(sink.of(StepDone)) == 2
    assert len(sink.of(EvalDone)) == 1
    assert len(sink.of(Stopped)) == 1
    assert sink.events[-1] == Finished(metrics)
    assert sink.closed == 1
    # The log is a sink of the run: nobody had to ask for it.
    log = session.resolved_run.directory.log.read_text().splitlines()
    said = [line[20:].split(":")[0] for line in log if "warning" not in line]
    assert said == ["training for 2 steps", "epoch 1, step 2", "finished"]


def test_one_that_raises_is_dropped_and_the_run_goes_on(config: Path, tmp_path: Path) -> None:
    bad, good = Recording(on_step(1, broken)), Recording()
    session = tiny.opened(config, tmp_path / "runs", *SHORT)
    metrics = train(session, [bad, good])
    assert metrics["status"] == "finished"
    told = "the sink Recording failed and no longer follows the run: ValueError: no connection"
    assert about_sinks(metrics["warnings"]) == [told]
    assert about_sinks(event.text for event in good.of(Warned)) == [told]
    assert told in session.resolved_run.directory.log.read_text()
    assert len(bad.of(StepDone)) == 1
    assert len(good.of(StepDone)) == 2
    assert (bad.closed, good.closed) == (1, 1)


def test_one_that_cannot_be_made_or_closed_is_warned_of(config: Path, tmp_path: Path) -> None:
    def unmade(run: ResolvedRun) -> Any:
        raise OSError("the server is down")

    class Unclosable(Recording):
        def close(self) -> None:
            broken()

    last = Recording()
    session = tiny.opened(config, tmp_path / "runs", *SHORT)
    metrics = train(session, [last, unmade, Unclosable()])
    made = "the sink unmade cannot follow the run: OSError: the server is down"
    assert about_sinks(metrics["warnings"]) == [made]
    closed = "the sink Unclosable could not be closed: ValueError: no connection"
    assert about_sinks(event.text for event in last.of(Warned)) == [made, closed]
    assert last.closed == 1
    assert closed in session.resolved_run.directory.log.read_text()


def test_one_may_refuse_a_run_before_it_trains(config: Path, tmp_path: Path) -> None:
    def refusing(run: ResolvedRun) -> Any:
        raise ConfigError.at("track", "mlflow is not installed", "pip install mlflow")

    first = Recording()
    session = tiny.opened(config, tmp_path / "runs", *SHORT)
    with pytest.raises(ConfigError, match="mlflow is not installed"):
        train(session, [first, refusing])
    assert first.events == []
    assert first.closed == 1
    with locked(session.resolved_run.directory.path):
        pass


def stopped_early(session: Any, sink: Recording) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRecord, "exhausted", True)
        assert train(session, [sink])["status"] == "early_stopped"


def pruned(session: Any, sink: Recording) -> None:
    with Trainer(session.device) as trainer:
        trainer.add(session, [sink], resume=False, prune=lambda event: True)
        assert list(trainer.train()) == [(session, None)]


def diverging(session: Any, sink: Recording) -> None:
    with torch.no_grad():
        session.learner.head.linear.weight.fill_(float("nan"))
    assert train(session, [sink])["status"] == "diverged"


def interrupted(session: Any, sink: Recording) -> None:
    sink.act = on_step(1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted):
        train(session, [sink])


def stopped_at_once(session: Any, sink: Recording) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    sink.act = on_step(1, twice)
    with pytest.raises(StoppedAtOnce):
        train(session, [sink])


def failing(session: Any, sink: Recording) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunRecorder, "after_step", lambda self, event: broken())
        with pytest.raises(ValueError, match="no connection"):
            train(session, [sink])


def failing_at_the_end(session: Any, sink: Recording) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunRecorder, "conclude", lambda *args: broken())
        with pytest.raises(ValueError, match="no connection"):
            train(session, [sink])


def failing_to_begin(session: Any, sink: Recording) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ptv2_cli.runs.recorder.write_history", lambda *args: broken())
        with pytest.raises(ValueError, match="no connection"):
            train(session, [sink])


def put_off(session: Any, sink: Recording) -> None:
    with Trainer(session.device) as trainer:
        trainer.add(session, [sink], resume=False)
        trainer.save_and_release()
        assert sink.closed == 1


@pytest.mark.parametrize(
    "end",
    [stopped_early, pruned, diverging, interrupted, stopped_at_once, failing, failing_at_the_end,
     failing_to_begin, put_off],
)  # fmt: skip
def test_it_is_closed_once_however_the_run_ends(
    end: Callable[[Any, Recording], None], config: Path, tmp_path: Path
) -> None:
    sink = Recording()
    session = tiny.opened(config, tmp_path / "runs", *SHORT, "train.eval_every=1")
    end(session, sink)
    assert sink.run is not None
    assert sink.closed == 1
    with locked(session.resolved_run.directory.path):  # and the directory is released
        pass


def test_a_directory_that_another_process_writes_makes_no_sink(
    config: Path, tmp_path: Path
) -> None:
    sink = Recording()
    session = tiny.opened(config, tmp_path / "runs", *SHORT)
    session.resolved_run.directory.path.mkdir(parents=True)
    with locked(session.resolved_run.directory.path), pytest.raises(RunError):
        train(session, [sink])
    assert sink.run is None


def test_a_run_that_goes_on_makes_new_sinks_and_continues_its_log(
    config: Path, tmp_path: Path
) -> None:
    first, second = Recording(), Recording()
    interrupted(tiny.opened(config, tmp_path / "runs", *SHORT), first)
    session = tiny.opened(config, tmp_path / "runs", *SHORT)
    train(session, [second])
    assert [event.resumed_at for event in first.of(Started) + second.of(Started)] == [0, 1]
    assert [event.step for event in second.of(StepDone)] == [2]
    log = session.resolved_run.directory.log.read_text()
    assert "training for 2 steps" in log
    assert "warning: stopping" in log
    assert "resumed at step 1 of 2 steps" in log
    whole = tiny.trained(config, tmp_path / "whole", *SHORT)[1]
    written = json.loads(session.resolved_run.directory.metrics.read_text())
    assert written["metrics"] == whole["metrics"]
