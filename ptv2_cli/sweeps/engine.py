"""The engine seam: what a sweep hands to the engine that runs its trials, and what it gets back."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ptv2_cli.config.load import load_config
from ptv2_cli.errors import RunError
from ptv2_cli.runs.resolved_run import ResolvedRun, prepare
from ptv2_cli.runs.rows.data import Memo
from ptv2_cli.runs.sinks.base import MakeSink
from ptv2_cli.sweeps.options import ClusterRequest, LaneRequest
from ptv2_cli.sweeps.records import Outcome
from ptv2_cli.training.events import EvalDone, RunEvent


@dataclass(frozen=True)
class TrialSpec:
    """One trial as plain data: it can be pickled, or written as JSON, and sent anywhere."""

    number: int
    """Position in the sweep's plan, from 1."""
    name: str
    """Name of the run directory, inside `output`."""
    fingerprint: str
    config: Mapping[str, Any]
    """The resolved config, as config.yaml in the run directory holds it; paths are absolute."""
    output: str
    """Absolute path of the folder that gets the run directory."""
    notes: tuple[str, ...] = ()
    """What resolving the config had to say; the run repeats it among its warnings."""
    sweep: str = ""
    """Name of the sweep's folder, by which trackers group its trials."""


@dataclass(frozen=True)
class TrialResult:
    """How one trial ended, as plain data."""

    fingerprint: str
    """Of the trial's spec."""
    outcome: Outcome


class Monitor(Protocol):
    """The sweep's side of a running engine. The sweep implements it; an engine calls it."""

    def started(self, trial: TrialSpec) -> MakeSink:
        """Call when a trial starts or resumes.

        Returns what makes a sink for the run's events, which shows the trial's progress. An
        engine that receives no events from its trials ignores it.
        """

    def requeued(self, trial: TrialSpec) -> None:
        """Call when a trial that had started goes back to the queue, to start again later."""

    def should_stop(self, trial: TrialSpec, evaluation: EvalDone) -> bool:
        """Call after each evaluation of a trial; where it returns True, prune the trial there.

        A pruned trial is saved and set aside: its run is unfinished and has no metrics.json, and
        its result is `Outcome.pruned`. One that has no step left is not pruned.
        """


class SilentSink:
    """A sink that shows nothing."""

    def on(self, event: RunEvent) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is open."""


class SilentMonitor:
    """A monitor that shows nothing and stops nothing."""

    def started(self, trial: TrialSpec) -> MakeSink:
        """Show nothing."""
        return lambda run: SilentSink()

    def requeued(self, trial: TrialSpec) -> None:
        """Do nothing."""

    def should_stop(self, trial: TrialSpec, evaluation: EvalDone) -> bool:
        """Stop nothing."""
        return False


@dataclass(frozen=True)
class Forecast:
    """What an engine can say before it runs anything; empty where it cannot tell."""

    lines: tuple[str, ...] = ()
    """How the trials will share the machine, one sentence each, shown with the plan."""
    seconds: Mapping[str, float] | None = None
    """Fingerprint -> seconds until its trial has ended, counted in the time of the sweep."""


@dataclass(frozen=True)
class EngineContext:
    """What an engine is made with: the options of the command."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    offline: bool = False
    """Never use the network."""
    threads: int | None = None
    """Processor threads of every process that computes; None: see `ptv2_cli.threads`."""
    lanes: LaneRequest = field(default_factory=LaneRequest)
    """How many trials may share one backbone."""
    cluster: ClusterRequest = field(default_factory=ClusterRequest)
    """Where an engine for several machines runs them."""
    memo: Memo = field(default_factory=Memo)
    """What this process has read and prepared; see `prepare_spec`. Useless on another machine."""


class Engine(Protocol):
    """Runs the trials of a sweep: `local` in this process, another one wherever it likes.

    The sweep plans the trials, leaves out those that have finished, calls `forecast` and then
    `run`, and writes each result to its results.json. An engine neither reads nor writes the
    sweep's folder. It is made as `engine(context)`.

    An engine that runs trials on other machines sends each spec there (it pickles), calls
    `ptv2_cli.sweeps.engines.local.run_trial(spec)` on that machine with `output` replaced by a
    folder of that machine, copies the run directory back to `output/name`, and yields the result.
    The other machine needs the same data and backbone files at the same paths: where they differ,
    the trial fails and says so. `engines/ray.py` is such an engine, which sends the files too.
    """

    def __init__(self, context: EngineContext) -> None:
        """Check what can be checked without trials, such as the device.

        Raises:
            ConfigError: the engine cannot work with these options.
        """

    def forecast(self, trials: Sequence[TrialSpec], *, timed: bool = True) -> Forecast:
        """Say how the trials will run and, if `timed`, how long they will take; write nothing.

        Raises:
            ConfigError: the trials cannot run as the options demand.
        """

    def run(
        self, trials: Iterable[TrialSpec], monitor: Monitor
    ) -> Generator[TrialResult, None, None]:
        """Run trials, yielding one result for each as soon as it has ended, in any order.

        - Take trials from the iterable only when there is room for them: a search decides on the
          next trial when it is asked for it, by the results that were yielded until then. A
          `Sequence` holds all trials of the sweep, which may be grouped before they start.
        - A run directory with a checkpoint is resumed. `ResolvedRun.started` tells.
        - One trial's failure is a result with status `failed`, a `reason` and a `hint`; it must
          not stop the others.
        - The sweep closes the generator when it must stop early: end the trials then.

        Raises:
            Interrupted: by a signal, after the running trials have been saved.
            MachineError: the disk is full or has failed; no further trial can run.
        """
        ...


def prepare_spec(
    spec: TrialSpec, *, offline: bool = False, memo: Memo | None = None
) -> ResolvedRun:
    """The run that a spec describes: its data read, its backbone's files located.

    Runs that the memo holds are not prepared again.

    Raises:
        InputError: data or backbone are missing or broken here.
        RunError: data, backbone or code here differ from those that the trial was planned with.
    """
    memo = memo or Memo()
    run = memo.get(("trial", spec.fingerprint), lambda: _prepared(spec, offline, memo))
    return replace(run, sweep=spec.sweep)


def remember(run: ResolvedRun, memo: Memo) -> None:
    """Let the memo hold a run that is prepared already."""
    memo.get(("trial", run.fingerprint), lambda: run)


def _prepared(spec: TrialSpec, offline: bool, memo: Memo) -> ResolvedRun:
    loaded = load_config(dict(spec.config))
    run = prepare(loaded, Path(spec.output), offline=offline, memo=memo)
    if run.fingerprint != spec.fingerprint:
        raise RunError.at(
            spec.name,
            f"would be another run here: its fingerprint is {run.fingerprint}, and "
            f"{spec.fingerprint} was planned",
            "copy the data and the backbone's files to this machine, and install the same ptv2",
        )
    return replace(run, resolved=replace(run.resolved, notes=spec.notes))
