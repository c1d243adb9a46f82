"""Sweeps of tiny trials, as lanes of one backbone or one after another, and what they leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from ptv2_cli.config.load import parse_set
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.sinks.base import MakeSink
from ptv2_cli.sweeps.axes import from_flags
from ptv2_cli.sweeps.capacity import LaneGroup
from ptv2_cli.sweeps.engine import EngineContext, remember
from ptv2_cli.sweeps.engines.local import LocalEngine
from ptv2_cli.sweeps.grid import make_combinations
from ptv2_cli.sweeps.options import LaneRequest
from ptv2_cli.sweeps.records import Outcome
from ptv2_cli.sweeps.run import ShouldStop, run_trials
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trials import Plan, Trial, plan_trials


@dataclass
class Left:
    """What a trial has left in its directory."""

    folder: Path

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json."""
        content: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text())
        return content

    @property
    def history(self) -> list[dict[str, Any]]:
        """Its evaluations."""
        return _lines(self.folder / "history.jsonl")

    @property
    def losses(self) -> list[float]:
        """The mean training loss before each evaluation."""
        return [line["train_loss"] for line in self.history]

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """Of the validation split, at the chosen epoch; of several answers the best."""
        found = _lines(self.folder / "predictions" / "validation.jsonl")
        for line in found:
            if isinstance(line["prediction"], dict) and "nbest" in line["prediction"]:
                del line["prediction"]["nbest"][1:]
        return found


@dataclass
class Watch:
    """A view that remembers everything it is told."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Name of a run -> how it ended."""
    order: list[str] = field(default_factory=list)
    """Names in the order in which runs began or went on."""
    events: dict[str, list[Any]] = field(default_factory=dict)
    """Name of a run -> what it told."""
    running: set[str] = field(default_factory=set)
    most: int = 0
    """Most runs at once."""
    told: Callable[[str, Any], None] = lambda name, event: None
    """Called with every event."""

    def started(self, trial: Trial) -> MakeSink:
        name = trial.spec.name
        self.order.append(name)
        self.running.add(name)
        self.most = max(self.most, len(self.running))
        return lambda run: _Following(self, name)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        self.outcomes[outcome.run or ""] = outcome
        self.running.discard(outcome.run or "")

    def of(self, name: str, kind: type) -> list[Any]:
        """Events of one kind that one run told."""
        return [event for event in self.events.get(name, []) if isinstance(event, kind)]


@dataclass
class _Following:
    """The sink of one run."""

    watch: Watch
    name: str

    def on(self, event: Any) -> None:
        self.watch.events.setdefault(self.name, []).append(event)
        self.watch.told(self.name, event)

    def close(self) -> None:
        self.watch.running.discard(self.name)


@dataclass
class Swept:
    """A sweep that is over."""

    plan: Plan
    store: Store
    watch: Watch

    @property
    def runs(self) -> list[Left]:
        """The trials' directories, in the plan's order."""
        found = [trial.resolved_run for trial in self.plan.trials]
        return [Left(one.directory.path) for one in found if one is not None]

    @property
    def statuses(self) -> list[str]:
        """How the trials ended, in the plan's order."""
        marks = [trial.record.fingerprint for trial in self.plan.trials]
        return [self.store.outcomes[mark].status for mark in marks]


def write(
    folder: Path,
    backbone: Path,
    data: Path,
    *sections: dict[str, Any],
    dropout: float | str = "off",
    **common: Any,
) -> list[Path]:
    """A config for each of `sections`, which replace keys as `common` does; `train` is added to."""
    paths = []
    for number, section in enumerate(sections):
        path = tiny.write_config(folder / f"c{number}.yaml", backbone, data)
        content = {**yaml.safe_load(path.read_text()), **common, **section}
        train = {"lr": 0.01, "batch_size": 4, "seed": 11, "steps": 20, "eval_every": 10}
        content["train"] = {**train, **common.get("train", {}), **section.get("train", {})}
        if "epochs" in content["train"]:
            del content["train"]["steps"]
        content["backbone"] = {"name": str(backbone), "dropout": dropout}
        content = {key: value for key, value in content.items() if value is not None}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        paths.append(path)
    return paths


def plan(
    configs: Sequence[Path], output: Path, *sets: str, seed: str | None = None, grid: str = ""
) -> Plan:
    """The trials of configs; `grid` is `key=value,value key=value,value`."""
    flags = from_flags(None, None, seed, grid.split())
    combinations = make_combinations(list(configs), [parse_set(text) for text in sets], flags)
    return plan_trials(combinations, output, offline=True)


def sweep(
    configs: Sequence[Path] | Plan,
    output: Path,
    lanes: int,
    *sets: str,
    seed: str | None = None,
    grid: str = "",
    watch: Watch | None = None,
    should_stop: ShouldStop | None = None,
) -> Swept:
    """Train trials, `lanes` at once; all must be able to share."""
    planned = configs if isinstance(configs, Plan) else plan(
        configs, output, *sets, seed=seed, grid=grid
    )  # fmt: skip
    swept = Swept(planned, Store(planned, output), watch or Watch())
    swept.store.begin()
    swept.store.write_plan()
    run_trials(swept.store, engine(planned, lanes), swept.watch, should_stop)
    return swept


class Unmeasured(LocalEngine):
    """A local engine that takes all runs as one group and measures nothing."""

    lanes = 1

    def lane_groups(self, runs: Sequence[ResolvedRun]) -> list[LaneGroup]:
        return [LaneGroup(tuple(runs), self.lanes)] if runs else []


def engine(planned: Plan, lanes: int = 1) -> LocalEngine:
    """An engine on the CPU that knows the runs of a plan."""
    context = EngineContext(device="cpu", offline=True, lanes=LaneRequest(lanes, "--lanes"))
    for trial in planned.trials:
        if trial.resolved_run is not None:
            remember(trial.resolved_run, context.memo)
    made = Unmeasured(context)
    made.lanes = lanes
    return made


def assert_same(alone: Left, lane: Left, losses: float = 2e-5, probability: float = 2e-4) -> None:
    """The same trial alone and as a lane: losses and predictions are equal but for rounding."""
    one, other, name = alone.history, lane.history, lane.folder.name
    for key in ("step", "epoch", "lr"):
        assert [line[key] for line in one] == [line[key] for line in other], name
    assert lane.losses == pytest.approx(alone.losses, rel=losses, abs=losses), name
    for key in ("status", "selection", "metrics", "final", "parameters", "majority_baseline"):
        _assert_near(lane.metrics[key], alone.metrics[key], 1e-6, f"{name}: {key}")
    assert len(alone.predictions) > 0
    _assert_near(lane.predictions, alone.predictions, probability, f"{name}: predictions")


def _assert_near(found: Any, wanted: Any, tolerance: float, where: str) -> None:
    """The same, where numbers that are no counts may differ by rounding."""
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key, value in wanted.items():
            _assert_near(found[key], value, tolerance, f"{where}: {key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for at, value in enumerate(wanted):
            _assert_near(found[at], value, tolerance, f"{where}: {at}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance), where
    else:
        assert found == wanted, where


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
