"""Trackers: which points they get, and what becomes of a run whose tracker fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny

from ptv2_cli.errors import ConfigError, InputError
from ptv2_cli.registry import TRACKERS
from ptv2_cli.runs import trainer
from ptv2_cli.runs.finished import load_run_config, resolve_finished
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.sinks import tracker, worker
from ptv2_cli.runs.sinks.tracker import TrackedRun, Tracker
from ptv2_cli.training.events import EvalDone, StepDone


class Library:
    """What a tracker has sent; `act` is called with the name of every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.threads: set[str] = set()
        self.act: Callable[[str], None] = lambda call: None
        self.load_count = 0

    def take(self, call: str, value: Any = None) -> None:
        self.threads.add(threading.current_thread().name)
        self.act(call)
        self.calls.append((call, value))

    def of(self, call: str) -> list[Any]:
        return [value for name, value in self.calls if name == call]


LIBRARY = Library()


class Kept(Tracker):
    """A tracker that keeps what it gets."""

    name = "kept"

    def load(self) -> None:
        LIBRARY.load_count += 1

    def open(self, known: TrackedRun | None) -> TrackedRun:
        LIBRARY.take("open", known)
        return known or TrackedRun(f"{self.run.sweep or 'run'}-1")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        LIBRARY.take("log", (step, dict(values)))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        LIBRARY.take("finish", metrics["status"])

    def end(self, *, finished: bool) -> None:
        LIBRARY.take("end", finished)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setitem(TRACKERS._entries, "kept", Kept)
    monkeypatch.setitem(TRACKERS._sources, "kept", "a test")
    monkeypatch.setattr(tracker, "_SILENT", set())
    LIBRARY.__init__()  # type: ignore[misc]
    return LIBRARY


@pytest.fixture
def config(library: Library, folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    data = tiny.write_rte(tmp_path / "rte", train=8, validation=4)
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data, track="kept")


def stop_at(step: int) -> Callable[[Any], None]:
    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == step:
            raise KeyboardInterrupt

    return stop


def told(metrics: Mapping[str, Any]) -> list[str]:
    return [text for text in metrics["warnings"] if "the tracker " in text]


def test_it_gets_the_history_and_the_result(config: Path, library: Library, tmp_path: Path) -> None:
    session, metrics = tiny.trained(config, tmp_path / "runs")
    assert [name for name, _ in library.calls] == ["open", "log", "log", "log", "finish", "end"]
    assert library.of("open") == [None]
    lines = session.resolved_run.directory.read_history()
    for line, (step, values) in zip(lines, library.of("log"), strict=True):
        assert step == line["step"]
        assert values == {
            "train/loss": line["train_loss"],
            "train/lr": line["lr"],
            "train/epoch": line["epoch"],
            "validation/loss": line["validation_loss"],
            "validation/accuracy": line["metrics"]["accuracy"],
        }
    assert library.of("end") == [True]
    assert library.threads == {"tracker kept"}
    assert told(metrics) == []


def test_results_do_not_depend_on_it(config: Path, library: Library, tmp_path: Path) -> None:
    with_it, tracked = tiny.trained(config, tmp_path / "a")
    without, plain = tiny.trained(config, tmp_path / "b", "track=[]")
    assert tracked["metrics"] == plain["metrics"]
    assert with_it.resolved_run.fingerprint == without.resolved_run.fingerprint


def test_a_resumed_run_sends_no_point_twice_and_none_too_few(
    config: Path, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        tiny.trained(config, tmp_path / "runs", listen=stop_at(3))
    assert library.of("end") == [False]
    session, _ = tiny.trained(config, tmp_path / "runs", resume=True)
    assert library.of("open") == [None, TrackedRun("run-1", 2)]
    assert [step for step, _ in library.of("log")] == [2, 4, 6]
    state = session.resolved_run.directory.path / "trackers" / "kept.json"
    assert json.loads(state.read_text()) == {"id": "run-1", "step": 6}


def test_points_that_a_tracker_missed_are_sent_when_the_run_goes_on(
    config: Path, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(call: str) -> None:
        if call == "log":
            raise ConnectionError("gone")

    library.act = fail
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        tiny.trained(config, tmp_path / "runs", listen=stop_at(5))
    library.act = lambda call: None
    tiny.trained(config, tmp_path / "runs", resume=True)
    assert [step for step, _ in library.of("log")] == [2, 4, 6]


def test_an_evaluation_that_was_never_saved_is_no_point(
    config: Path, library: Library, tmp_path: Path
) -> None:
    def stop(event: Any) -> None:
        if isinstance(event, EvalDone) and event.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.trained(config, tmp_path / "runs", listen=stop)
    assert [step for step, _ in library.of("log")] == [2]


@pytest.mark.parametrize("call", ["open", "log", "finish", "end"])
@pytest.mark.parametrize("error", [ConnectionError("no route\nto it"), SystemExit(3)])
def test_one_that_fails_costs_one_warning(
    call: str, error: BaseException, config: Path, library: Library, tmp_path: Path
) -> None:
    def fail(name: str) -> None:
        if name == call:
            raise error

    library.act = fail
    session, metrics = tiny.trained(config, tmp_path / "runs")
    assert metrics["status"] == "finished"
    assert metrics["evaluations"] == 3
    warned = [line for line in session.warnings if "tracker kept" in line]
    assert len(warned) == 1
    assert "no route" in warned[0] or "SystemExit" in warned[0]
    assert warned[0] in session.resolved_run.directory.log.read_text()


@pytest.mark.parametrize("call", ["open", "log", "finish", "end"])
def test_one_that_hangs_costs_one_warning(
    call: str, config: Path, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forever = threading.Event()
    library.act = lambda name: forever.wait() if name == call else None  # type: ignore[assignment]
    monkeypatch.setattr(worker, "LIMIT", 0.5)
    session, metrics = tiny.trained(config, tmp_path / "runs")
    forever.set()
    assert metrics["status"] == "finished"
    warned = [line for line in session.warnings if "tracker kept" in line]
    assert len(warned) == 1
    assert "TimeoutError: kept has not answered for 0.5 seconds" in warned[0]


def test_a_server_that_is_silent_is_waited_for_once(
    config: Path, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forever = threading.Event()
    opened: list[str] = []

    def hang(call: str) -> None:
        opened.append(call)
        forever.wait()

    library.act = hang
    monkeypatch.setattr(worker, "LIMIT", 0.3)
    for seed in (1, 2):
        session, _ = tiny.trained(config, tmp_path / "runs", f"train.seed={seed}")
        (text,) = [line for line in session.warnings if "tracker kept" in line]
        assert ("did not answer an earlier run" in text) == (seed == 2)
    forever.set()
    assert opened == ["open"]


def test_training_does_not_wait_for_it(config: Path, library: Library, tmp_path: Path) -> None:
    """The steps after the first evaluation are taken while the first point is being sent."""
    steps_at_first_point: list[int] = []
    seen: list[int] = []
    last = threading.Event()

    def listen(event: Any) -> None:
        if isinstance(event, StepDone):
            seen.append(event.step)
            if event.step == 6:
                last.set()

    def slow(call: str) -> None:
        if call == "log" and not steps_at_first_point:
            assert last.wait(30)
            steps_at_first_point.append(seen[-1])

    library.act = slow
    tiny.trained(config, tmp_path / "runs", listen=listen)
    assert steps_at_first_point == [6]
    assert [step for step, _ in library.of("log")] == [2, 4, 6]


def test_no_library_is_imported_before_a_tracker_is_made() -> None:
    code = (
        "import sys\n"
        "from ptv2_cli.registry import TRACKERS\n"
        "for name in ('tensorboard', 'mlflow', 'trackio', 'wandb'):\n"
        "    TRACKERS.load(name).Options()\n"
        "seen = {'tensorboard', 'mlflow', 'trackio', 'wandb', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported: {seen}' if seen else 0)\n"
    )
    done = forked.finish(code=code)
    assert done.returncode == 0, done.stderr


def test_a_password_in_an_error_is_not_told(config: Path, library: Library, tmp_path: Path) -> None:
    def fail(call: str) -> None:
        raise ConnectionError("https://ann:hunter2@host/api?token=abc123&x=1 failed")

    library.act = fail
    session, _ = tiny.trained(config, tmp_path / "runs")
    (text,) = [line for line in session.warnings if "tracker kept" in line]
    assert "https://***@host/api?token=***&x=1 failed" in text


def test_a_finished_run_is_used_without_its_tracker(
    config: Path, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, metrics = tiny.trained(config, tmp_path / "runs", "track=mlflow", "track=kept")
    run = session.resolved_run.directory
    text = run.config.read_text().replace("kept", "wandb")
    run.config.write_text(text)
    monkeypatch.setattr("ptv2_cli.runs.resolve.tracker_rules.find_spec", lambda name: None)
    assert Run(run, offline=True).predictions()
    loaded = load_run_config(run)
    assert resolve_finished(run, metrics, loaded, offline=True).config.track == ()


@pytest.mark.parametrize(
    ("track", "what", "hint"),
    [
        ("tensorbord", "unknown tracker 'tensorbord'", "did you mean 'tensorboard'?"),
        ("comet", "unknown tracker 'comet'", "tensorboard, mlflow, trackio, wandb"),
        ("[kept, kept]", "kept stands twice", "leave one of them out"),
        ("{name: mlflow, url: x}", "unknown key track[0].url", "did you mean track[0].uri?"),
        ("{name: wandb, mode: on}", "track[0].mode must be", "online, offline"),
        (
            "{name: mlflow, uri: 'http://ann:hunter2@host'}",
            "holds a password",
            "MLFLOW_TRACKING_PASSWORD",
        ),
    ],
)
def test_bad_input(track: str, what: str, hint: str, config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny.opened(config, tmp_path / "runs", f"track={track}")
    text = str(caught.value)
    assert what in text
    assert hint in text
    assert "hunter2" not in text
    assert not (tmp_path / "runs").exists()


def test_a_library_that_is_missing_is_told_with_the_command(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptv2_cli.runs.resolve.tracker_rules.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        tiny.opened(config, tmp_path / "runs", "track=[tensorboard, {name: wandb, mode: offline}]")
    assert "pip install 'ptv2[tensorboard]'" in str(caught.value)
    assert "pip install 'ptv2[wandb]'" in str(caught.value)


def test_offline_refuses_trackers_that_send(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.config.load import load_config, parse_set
    from ptv2_cli.runs.resolved_run import prepare

    monkeypatch.setattr("ptv2_cli.runs.resolve.tracker_rules.find_spec", lambda name: True)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    sends = "[wandb, {name: mlflow, uri: 'http://host:5000'}, tensorboard, trackio]"
    loaded = load_config(config, [parse_set(f"track={sends}")])
    with pytest.raises(InputError) as caught:
        prepare(loaded, tmp_path / "runs", offline=True)
    assert len(caught.value.problems) == 2
    assert "wandb sends the run" in str(caught.value)
    assert "mode: offline" in str(caught.value)
    assert "http://host:5000" in str(caught.value)
    stays = "[{name: wandb, mode: offline}, {name: mlflow, uri: 'sqlite:///x.db'}]"
    loaded = load_config(config, [parse_set(f"track={stays}")])
    assert prepare(loaded, tmp_path / "runs", offline=True)


@pytest.mark.parametrize(
    "plan",
    [
        ["--seed", "11,12", "--lanes", "1"],
        ["--seed", "11,12", "--lanes", "2"],
        ["--search", "random", "--trials", "2", "--space", "train.lr={log: [1e-3, 1e-1]}"],
    ],
    ids=["one by one", "lanes", "search"],
)
def test_trials_of_a_sweep_know_it(
    plan: list[str], config: Path, library: Library, tmp_path: Path
) -> None:
    """As lanes too every trial has its own tracker."""
    from ptv2_cli.cli.app import run as ptv2

    if "--search" in plan:
        pytest.importorskip("optuna")
    words = ["sweep", str(config), *plan, "--output", str(tmp_path / "runs")]
    words += ["--device", "cpu", "--set", "train.epochs=1"]
    assert ptv2(words) == 0
    assert len(library.of("open")) == len(library.of("log")) == len(library.of("finish")) == 2
    states = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/trackers/*.json")]
    (sweep,) = [path.parent.name for path in tmp_path.glob("runs/sweeps/*/plan.json")]
    assert states == [{"id": f"{sweep}-1", "step": 2}] * 2
