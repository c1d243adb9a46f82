"""What runs on a node of the cluster: a task that trains trials with the local engine."""

from __future__ import annotations

import os
import pickle
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import ray
import torch

from ptv2_cli.errors import InputError, Interrupted, MachineError, Problem
from ptv2_cli.runs.directory import RunDirectory, find_by_fingerprint, write_config
from ptv2_cli.runs.lock import in_use
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.results import write_json
from ptv2_cli.runs.sinks.base import MakeSink
from ptv2_cli.sweeps.engine import EngineContext, TrialResult, TrialSpec, prepare_spec
from ptv2_cli.sweeps.engines.local import LocalEngine
from ptv2_cli.sweeps.engines.ray_files import (
    Files,
    SentMaterial,
    moved,
    pack,
    run_files,
    unpack,
)
from ptv2_cli.sweeps.engines.ray_probe import installed
from ptv2_cli.sweeps.options import LaneRequest
from ptv2_cli.sweeps.records import Outcome
from ptv2_cli.threads import use_threads
from ptv2_cli.training.events import (
    EvalDone,
    Finished,
    RunEvent,
    Saved,
    Started,
    StepDone,
    Ticked,
)

EVENTS_SECONDS = 0.25
"""Between two messages about the steps of a trial; only the last step of each time is told."""
COPY_SHARE = 0.05
"""Of a trial's time that copies of its checkpoints to the driver may take."""
RELEASE_SECONDS = 30.0
"""How long a task waits for a run directory that a dying process still holds."""


@dataclass(frozen=True)
class Job:
    """What all tasks of a sweep share, as plain data and references."""

    board: Any
    """The actor that takes messages to the driver."""
    mark: tuple[str, str]
    """Path and content of a file in the output folder: a node that reads it shares that folder."""
    device: str
    offline: bool
    threads: int
    lanes: LaneRequest
    versions: Mapping[str, str | None]
    """What the driver has installed; see `ray_probe.installed`."""

    @property
    def shared(self) -> bool:
        """Whether this node sees the driver's output folder, and may write there."""
        path, content = Path(self.mark[0]), self.mark[1]
        try:
            return path.read_text() == content and os.access(path.parent, os.W_OK)
        except OSError:
            return False

    def tell(self, message: object) -> None:
        """Tell the driver something, without waiting."""
        self.board.tell.remote(pickle.dumps(message))

    def ask(self, message: object, files: Files | None = None) -> Any:
        """Ask the driver, or tell it something that it has taken note of when this returns."""
        return ray.get(self.board.ask.remote(pickle.dumps(message), files))


@dataclass(frozen=True)
class Begun:
    """A task has begun, perhaps again; answered by the fingerprints of what is left of it."""

    task: int


@dataclass(frozen=True)
class TrialStarted:
    """The monitor's `started`."""

    fingerprint: str


@dataclass(frozen=True)
class TrialRequeued:
    """The monitor's `requeued`."""

    fingerprint: str


@dataclass(frozen=True)
class Events:
    """What a trial told its sink."""

    fingerprint: str
    events: tuple[RunEvent, ...]


@dataclass(frozen=True)
class MayStop:
    """The monitor's `should_stop`; answered by a boolean."""

    fingerprint: str
    evaluation: EvalDone


@dataclass(frozen=True)
class Fetch:
    """A trial is to go on; answered by the files of its run directory, or None."""

    fingerprint: str


@dataclass(frozen=True)
class Copied:
    """A trial is saved; its files come along."""

    fingerprint: str


@dataclass(frozen=True)
class Ended:
    """A trial has ended; its files come along where the driver does not see them."""

    result: TrialResult


Message = Begun | TrialStarted | TrialRequeued | Events | MayStop | Fetch | Copied | Ended


@dataclass(frozen=True)
class LocalTrial:
    """A trial as this node runs it."""

    spec: TrialSpec
    """With this node's paths."""
    theirs: TrialSpec
    """With the driver's paths."""
    places: Mapping[str, str]
    """Path here -> what the driver's config names, where they differ."""

    @property
    def directory(self) -> RunDirectory:
        """Where the run is or will be on this node."""
        output = Path(self.spec.output)
        known = find_by_fingerprint(output, self.spec.fingerprint)
        return known or RunDirectory(output / self.spec.name)


@dataclass(frozen=True)
class NodeFailed:
    """Why this node can run no trials, such as a full disk."""

    node: str
    problem: Problem
    shared: bool
    """Whether it is about a disk that the driver writes too."""


def train_trials(
    job: Job, task: int, trials: Sequence[TrialSpec], sent: Mapping[str, Sequence[SentMaterial]]
) -> NodeFailed | None:
    """Train trials that share a backbone, or a single one; the driver hears of each as it ends.

    Args:
        job: what all tasks share.
        task: the number of the task.
        trials: at the task's first start; those that have ended since are left out.
        sent: by fingerprint, what this node can fetch if it lacks data or backbone.
    """
    node = ray.get_runtime_context().get_node_id()
    differing = _other_versions(job.versions)
    if differing is not None:
        return NodeFailed(node, differing, shared=False)
    shared = job.shared
    monitor = _Remote(job, shared)
    try:
        use_threads(job.threads)
        left = job.ask(Begun(task))
        lanes = LaneRequest() if len(left) == 1 else job.lanes
        engine = LocalEngine(EngineContext(job.device, job.offline, job.threads, lanes))
        for trial in (trial for trial in trials if trial.fingerprint in left):
            local = _local(job, trial, sent[trial.fingerprint], shared)
            if local.directory.finished:  # its task was killed before the driver heard of it
                job.ask(Ended(TrialResult(trial.fingerprint, Outcome.of_run(local.directory))))
            else:
                monitor.trials[trial.fingerprint] = local
        with closing(engine.run([one.spec for one in monitor.trials.values()], monitor)) as results:
            for result in results:
                monitor.end(result)
    except Interrupted:
        monitor.copy_all()
    except InputError as error:  # the lanes that were asked for cannot be
        for mark in list(monitor.trials):
            monitor.end(TrialResult(mark, Outcome.failed(error.problems[0])))
    except (MachineError, OSError) as error:
        problem = _problem(error)
        monitor.copy_all()
        return NodeFailed(node, problem, shared)
    return None


def missing_here(trial: TrialSpec, sent: Sequence[SentMaterial], offline: bool) -> str | None:
    """What keeps a trial from running on this node; `sent` is what it can fetch."""
    try:
        _prepared_here(trial, sent, offline)
    except (InputError, MachineError) as error:
        problem = error.problems[0]
        return f"{problem.where}: {problem.what}" if problem.where else problem.what
    return None


def _other_versions(versions: Mapping[str, str | None]) -> Problem | None:
    """What differs from the driver on a node that has joined after the others were checked."""
    here = _loaded()
    if here == versions:
        return None
    told = ", ".join(f"{name} {here[name]}" for name in here if here[name] != versions[name])
    what = f"this node differs from the driver's machine: {told}"
    return Problem(platform.node(), what, "install the same versions everywhere")


@cache
def _loaded() -> dict[str, str | None]:
    """What this process has loaded: its files may change while it runs."""
    return installed()


def _problem(error: MachineError | OSError) -> Problem:
    if isinstance(error, MachineError):
        return error.problems[0]
    return Problem(platform.node(), f"{error.strerror or error}", "look at the disks of this node")


def _local(job: Job, trial: TrialSpec, sent: Sequence[SentMaterial], shared: bool) -> LocalTrial:
    """A trial made ready to run here: its data, its backbone and what it has done so far."""
    try:
        spec, places = _prepared_here(trial, sent, job.offline)
    except InputError:  # the engine meets the same error, and reports it
        spec, places = trial, {}
    if shared:
        local = LocalTrial(spec, trial, places)
        _wait_until_free(local.directory.path)
        return local
    user = os.getuid() if hasattr(os, "getuid") else 0
    scratch = Path(tempfile.gettempdir(), f"ptv2-trials-{user}", job.mark[1])
    shutil.rmtree(scratch / trial.name, ignore_errors=True)
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = job.ask(Fetch(trial.fingerprint))
    if files is not None:
        unpack(files, scratch / trial.name)
    return LocalTrial(replace(spec, output=str(scratch)), trial, places)


def _prepared_here(
    trial: TrialSpec, sent: Sequence[SentMaterial], offline: bool
) -> tuple[TrialSpec, dict[str, str]]:
    """The trial with the paths of its data and backbone on this node, and the driver's by ours."""
    try:
        prepare_spec(trial, offline=offline)
    except InputError:
        if not sent:
            raise
    else:
        return trial, {}
    places = {material.named: str(material.fetch()) for material in sent}
    spec = replace(trial, config=moved(trial.config, places))
    prepare_spec(spec, offline=offline)
    return spec, {here: there for there, here in places.items()}


def _wait_until_free(folder: Path) -> None:
    """Wait for a process that has lost its driver or its raylet, and is about to end."""
    until = time.monotonic() + RELEASE_SECONDS
    while in_use(folder) and time.monotonic() < until:
        time.sleep(0.2)


class _Remote:
    """The sweep's monitor, on the driver: what the local engine calls here is passed on."""

    def __init__(self, job: Job, shared: bool) -> None:
        self.trials: dict[str, LocalTrial] = {}
        """Those that have not ended, by fingerprint."""
        self._job = job
        self._shared = shared

    def started(self, trial: TrialSpec) -> MakeSink:
        """A trial starts or resumes."""
        self._job.tell(TrialStarted(trial.fingerprint))
        local = self.trials[trial.fingerprint]
        return lambda run: _Forward(self, local, run)

    def requeued(self, trial: TrialSpec) -> None:
        """A trial goes back to the queue."""
        self._job.tell(TrialRequeued(trial.fingerprint))

    def should_stop(self, trial: TrialSpec, evaluation: EvalDone) -> bool:
        """The driver decides."""
        return bool(self._job.ask(MayStop(trial.fingerprint, evaluation)))

    def tell(self, local: LocalTrial, events: Sequence[RunEvent]) -> None:
        """Pass events on to the trial's sink on the driver."""
        self._job.tell(Events(local.spec.fingerprint, tuple(events)))

    def end(self, result: TrialResult) -> None:
        """Tell the driver, and give it the run directory where it does not see it."""
        local = self.trials.pop(result.fingerprint)
        self._job.ask(Ended(result), self._files(local))
        if not self._shared:
            shutil.rmtree(local.directory.path, ignore_errors=True)

    def copy(self, local: LocalTrial) -> None:
        """Give the driver the checkpoints of a trial where it does not see them."""
        files = self._files(local)
        if files:
            self._job.ask(Copied(local.spec.fingerprint), files)

    def copy_all(self) -> None:
        """The same for all trials that have not ended."""
        for local in self.trials.values():
            self.copy(local)

    def _files(self, local: LocalTrial) -> Files | None:
        folder = local.directory.path
        return None if self._shared or not folder.is_dir() else pack(folder, run_files(folder))


class _Forward:
    """The sink of a trial here: sends what it is told, and copies of what is saved."""

    def __init__(self, remote: _Remote, local: LocalTrial, run: ResolvedRun) -> None:
        self._remote = remote
        self._local = local
        self._run = run
        self._later: RunEvent | None = None
        """A step or a tick that is told if none follows it soon."""
        self._told = 0.0
        self._copy_after = 0.0

    def on(self, event: RunEvent) -> None:
        """Send it, or keep it for the moment."""
        now = time.monotonic()
        if isinstance(event, StepDone | Ticked):
            self._later = event
            if now - self._told < EVENTS_SECONDS:
                return
            events: list[RunEvent] = []
        else:
            events = [self._with_their_paths(event)]
        if self._later is not None:
            events.insert(0, _plain(self._later))
        self._later, self._told = None, now
        self._remote.tell(self._local, events)
        if isinstance(event, Saved) and event.name == "last" and now >= self._copy_after:
            self._remote.copy(self._local)
            done = time.monotonic()
            self._copy_after = done + (done - now) / COPY_SHARE

    def close(self) -> None:
        """Nothing is open."""

    def _with_their_paths(self, event: RunEvent) -> RunEvent:
        """The event as the driver's side knows the run; sets right what is written here."""
        theirs = Path(self._local.theirs.output, self._run.directory.path.name)
        places = self._local.places
        if isinstance(event, Started):
            if places:  # the config that is kept is the driver's, whichever node trains
                config = dict(self._local.theirs.config)
                config["include"] = self._local.spec.config["include"]
                write_config(self._run.directory.config, config)
            return replace(event, directory=theirs)
        if isinstance(event, Saved):
            return replace(event, path=theirs / "checkpoints" / event.path.name)
        if isinstance(event, Finished) and places:
            metrics = moved(event.metrics, places)
            write_json(self._run.directory.metrics, metrics)
            return Finished(metrics)
        return event


def _plain(event: RunEvent) -> RunEvent:
    """A step with its loss off the device."""
    if isinstance(event, StepDone):
        return replace(event, loss=torch.tensor(float(event.loss)))
    return event
