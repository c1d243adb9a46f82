"""What is shown of a sweep whose trials run one by one, or several at once."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import torch
from commandline import Material
from rich.console import Console

from ptv2_cli.cli import console
from ptv2_cli.cli.views import progress, sweep_view
from ptv2_cli.cli.views.sweep_view import LiveView, PlainView, nearest, view
from ptv2_cli.runs.sinks.base import Sink
from ptv2_cli.sweeps.axes import from_flags
from ptv2_cli.sweeps.grid import make_combinations
from ptv2_cli.sweeps.records import Outcome
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trials import Trial, plan_trials
from ptv2_cli.training.events import EvalDone, Started, StepDone, Warned


def planned(material: Material, count: int) -> Store:
    """A sweep of `count` trials that differ in their seed."""
    path = material.write(Path("config.yaml"))
    seeds = ",".join(str(11 + at) for at in range(count))
    combinations = make_combinations([path], [], from_flags(None, None, seeds, []))
    store = Store(plan_trials(combinations, Path("runs"), offline=True), Path("runs"))
    store.begin()
    return store


def estimates(store: Store, *seconds: float) -> dict[str, float]:
    marks = [trial.record.fingerprint for trial in store.plan.trials]
    return dict(zip(marks, seconds, strict=True))


@dataclass
class Lanes:
    """Trials that an engine enters and leaves, each at its own time."""

    store: Store
    watcher: LiveView | PlainView

    def __post_init__(self) -> None:
        self.sinks: dict[int, Sink] = {}

    def trial(self, number: int) -> Trial:
        return self.store.plan.trials[number - 1]

    def enter(self, number: int, steps: int = 200) -> None:
        trial = self.trial(number)
        assert trial.resolved_run is not None
        self.store.note(trial.record.fingerprint, Outcome("running"))
        self.sinks[number] = self.watcher.started(trial)(trial.resolved_run)
        directory = trial.resolved_run.directory
        self.sinks[number].on(Started(directory.path, steps, 0, "accuracy"))

    def step(self, number: int, step: int) -> None:
        self.sinks[number].on(StepDone(step, step / 100, torch.tensor(0.5), 4, 40))

    def score(self, number: int, value: float) -> None:
        self.sinks[number].on(EvalDone(100, 1.0, {"accuracy": value}, 0.1, None))

    def leave(self, number: int, outcome: Outcome) -> None:
        self.sinks.pop(number).close()
        self.store.note(self.trial(number).record.fingerprint, outcome)
        self.watcher.ended(self.trial(number), outcome)


def drawn(shown: LiveView) -> list[str]:
    """The lines of the table, on a terminal of 80 columns."""
    text = StringIO()
    Console(file=text, width=80, height=24).print(shown.draw())
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert all(len(line) <= 80 for line in lines)
    return lines


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """A terminal of 80 columns and 24 lines in place of standard error."""
    text = StringIO()
    screen = Console(file=text, force_terminal=True, width=80, height=24, _environ={})
    monkeypatch.setattr(console, "err", screen)
    return text


def test_one_trial_at_a_time(material: Material, terminal: StringIO) -> None:
    store = planned(material, 3)
    lanes = Lanes(store, LiveView(store, estimates(store, 10.0, 10.0, 10.0)))
    lanes.enter(1)
    assert drawn(lanes.watcher)[2:] == [
        "1      config, seed 11  loading  -",
        "2      config, seed 12  to do    -",
        "3      config, seed 13  to do    -",
    ]
    lanes.step(1, 100)
    lanes.score(1, 0.75)
    lanes.step(1, 101)
    lines = drawn(lanes.watcher)
    assert lines[0].startswith("0 of 3 trials, about ")
    assert lines[2] == "1      config, seed 11  step 101 of 200, 75.0  -"
    lanes.leave(1, Outcome("finished", value=0.75))
    assert drawn(lanes.watcher)[2].split()[3:] == ["11", "finished", "75.0"]


def test_each_of_several_has_its_own_step_and_score(material: Material, terminal: StringIO) -> None:
    store = planned(material, 4)
    lanes = Lanes(store, LiveView(store, None))
    lanes.enter(1)
    lanes.enter(2, steps=50)
    lanes.step(1, 7)
    lanes.step(2, 8)
    lanes.score(2, 0.5)
    lanes.step(2, 9)
    lanes.enter(3)
    lines = drawn(lanes.watcher)
    assert lines[0] == "0 of 4 trials, 3 running"
    assert [" ".join(line.split()[4:]) for line in lines[2:]] == [
        "step 7 of 200 -", "step 9 of 50, 50.0 -", "loading -", "to do -",
    ]  # fmt: skip
    lanes.leave(2, Outcome("diverged", reason="the loss is no longer finite"))
    lanes.enter(4)
    lanes.step(1, 8)
    lines = drawn(lanes.watcher)
    assert lines[0] == "1 of 4 trials, 3 running"
    assert [" ".join(line.split()[4:]) for line in lines[2:]] == [
        "step 8 of 200 -", "diverged -", "loading -", "loading -",
    ]  # fmt: skip
    assert "seed 12 diverged: the loss is no longer finite" in terminal.getvalue()


def test_the_rows_that_run_are_in_sight(material: Material, terminal: StringIO) -> None:
    store = planned(material, 40)
    lanes = Lanes(store, LiveView(store, None))
    for number in (2, 3, 38):
        lanes.enter(number)
        lanes.step(number, 1)
    lines = drawn(lanes.watcher)
    assert len(lines) <= 24 - 5
    assert sum("step 1 of 200" in line for line in lines) == 3
    numbers = [int(line.split()[0]) for line in lines[2:]]
    assert numbers == sorted(numbers)
    assert {1, 4, 37, 39} < set(numbers)


def test_time_left_is_that_of_all(
    material: Material, terminal: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(sweep_view.time, "perf_counter", lambda: now)
    store = planned(material, 4)
    lanes = Lanes(store, LiveView(store, estimates(store, 40.0, 40.0, 10.0, 10.0)))
    failed = Outcome("failed", reason="by an earlier command")
    store.note(lanes.trial(4).record.fingerprint, failed)
    lanes.enter(1)
    lanes.enter(2)
    assert drawn(lanes.watcher)[0] == "0 of 4 trials, 2 running, about 2 min left"
    lanes.step(1, 100)
    lanes.step(2, 100)
    now += 20.0  # 40 of 100 estimated seconds took 20: 60 more take 30
    assert drawn(lanes.watcher)[0].endswith("about 30 s left")
    lanes.leave(1, Outcome("early_stopped", value=0.5))
    now += 10.0  # 60 of 100 in 30 seconds
    assert drawn(lanes.watcher)[0] == "1 of 4 trials, about 20 s left"
    lanes.enter(3)
    lanes.leave(3, Outcome("failed", reason="a defect"))
    now += 5.0  # 70 of 100 in 35 seconds
    assert drawn(lanes.watcher)[0] == "1 of 4 trials, about 15 s left"
    store.note(lanes.trial(2).record.fingerprint, Outcome("finished"))  # and not yet told
    now += 10.0  # 90 of 100 in 45 seconds
    assert drawn(lanes.watcher)[0] == "2 of 4 trials, about 5 s left"


def test_a_trial_that_begins_again_counts_once(
    material: Material, terminal: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(sweep_view.time, "perf_counter", lambda: now)
    store = planned(material, 2)
    lanes = Lanes(store, LiveView(store, estimates(store, 50.0, 50.0)))
    lanes.enter(1)
    lanes.step(1, 100)
    lanes.sinks.pop(1).close()  # put back, to be tried on its own later
    store.note(lanes.trial(1).record.fingerprint, Outcome("waiting"))
    now += 10.0
    assert drawn(lanes.watcher)[0] == "0 of 2 trials, about 2 min left"
    assert drawn(lanes.watcher)[2].split()[4:6] == ["to", "do"]
    lanes.enter(1)
    lanes.step(1, 100)
    assert drawn(lanes.watcher)[0] == "0 of 2 trials, about 30 s left"


def test_a_warning_of_all_lanes_is_said_once(material: Material, terminal: StringIO) -> None:
    store = planned(material, 2)
    lanes = Lanes(store, LiveView(store, None))
    for number in (1, 2):
        lanes.enter(number)
        lanes.sinks[number].on(Warned("texts are cut"))
    assert terminal.getvalue().count("texts are cut") == 1


def test_two_lanes_on_one_live_screen(material: Material, terminal: StringIO) -> None:
    store = planned(material, 2)
    with view(store, None, prefix=True) as watcher:
        lanes = Lanes(store, watcher)
        lanes.enter(1)
        lanes.enter(2)
        lanes.leave(1, Outcome("finished", value=0.5))
        lanes.leave(2, Outcome("finished", value=0.5))
    assert "2 of 2 trials" in terminal.getvalue()


def test_plain_lines_of_several_say_whose_they_are(
    material: Material, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    monkeypatch.setenv("COLUMNS", "300")
    store = planned(material, 3)
    with view(store, None, prefix=True) as watcher:
        lanes = Lanes(store, watcher)
        lanes.enter(1)
        lanes.enter(3)
        lanes.step(3, 40)
        lanes.step(1, 30)
        lanes.score(3, 0.5)
        lanes.sinks[3].on(Warned("texts are cut"))
        lanes.leave(3, Outcome("finished", value=0.5, seconds=3))
    said = capsys.readouterr().err.splitlines()
    assert all(line.removeprefix("warning: ").startswith("trial ") for line in said)
    assert "trial 1 of 3: config, seed 11" in said
    assert any(line.startswith("trial 3 of 3: training for 200 steps: runs") for line in said)
    assert any(line.startswith("trial 3 of 3: step 40 of 200: epoch 0.4") for line in said)
    assert any(line.startswith("trial 1 of 3: step 30 of 200: epoch 0.3") for line in said)
    assert any(line.startswith("trial 3 of 3: epoch 1, step 100: accuracy 50.0") for line in said)
    assert "warning: trial 3 of 3: texts are cut" in said
    assert "trial 3 of 3: finished, accuracy 50.0 (3 s of training)" in said


def test_plain_lines_of_one_at_a_time_are_as_ever(
    material: Material, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    store = planned(material, 2)
    with view(store, None) as watcher:
        lanes = Lanes(store, watcher)
        lanes.enter(1)
        lanes.step(1, 40)
        lanes.sinks[1].on(Warned("texts are cut"))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "trial 1 of 2: config, seed 11"
    assert said[1].startswith("training for 200 steps: runs")
    assert said[2].startswith("step 40 of 200: epoch 0.4")
    assert said[3] == "warning: texts are cut"


@pytest.mark.parametrize(
    ("count", "places", "room", "rows"),
    [
        (9, [4], 4, [2, 3, 4, 5]),
        (9, [4], 5, [2, 3, 4, 5, 6]),
        (9, [0], 3, [0, 1, 2]),
        (9, [8], 3, [6, 7, 8]),
        (2, [1], 5, [0, 1]),
        (20, [3, 4, 15], 5, [2, 3, 4, 5, 15]),
        (20, [3, 5, 7, 9], 3, [3, 5, 7]),
    ],
)
def test_rows_nearest_to_those_that_run(
    count: int, places: list[int], room: int, rows: list[int]
) -> None:
    assert nearest(count, places, room) == rows


def test_one_place_is_the_middle_of_the_window() -> None:
    for count, at, room in [(40, at, room) for at in range(40) for room in (3, 4, 17)]:
        first = max(0, min(at - room // 2, count - room))
        assert nearest(count, [at], room) == list(range(first, first + room))
