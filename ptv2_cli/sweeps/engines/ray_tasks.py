"""The driver's side of a sweep on a cluster: submits tasks, answers them, gathers results."""

from __future__ import annotations

import math
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import ray
from ray.exceptions import (
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ptv2_cli.errors import LESS_MEMORY, MachineError, Problem
from ptv2_cli.files import make_folder
from ptv2_cli.runs.directory import ELSEWHERE, RunDirectory, find_by_fingerprint, writing
from ptv2_cli.runs.interrupts import Interrupts
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.sinks.base import Sinks
from ptv2_cli.sweeps.engine import EngineContext, Monitor, TrialResult, TrialSpec
from ptv2_cli.sweeps.engines import ray_cluster
from ptv2_cli.sweeps.engines.ray_board import Board
from ptv2_cli.sweeps.engines.ray_files import Files, pack, run_files, unpack
from ptv2_cli.sweeps.engines.ray_probe import installed
from ptv2_cli.sweeps.engines.ray_supplies import Supplies
from ptv2_cli.sweeps.engines.ray_worker import (
    Begun,
    Copied,
    Ended,
    Events,
    Fetch,
    Job,
    MayStop,
    Message,
    NodeFailed,
    TrialRequeued,
    TrialStarted,
    train_trials,
)
from ptv2_cli.sweeps.records import Outcome
from ptv2_cli.training.checkpoint import resumable
from ptv2_cli.training.events import Warned

RETRIES = 3
"""How often a task is begun again whose process or node has died."""
LOOK_SECONDS = 0.5
"""Between two looks at signals and ended tasks while no message comes."""
COUNT_SECONDS = 5.0
"""Between two looks at how many nodes there are."""
SAVE_SECONDS = 120.0
"""How long running tasks may take to save after an interrupt."""


@dataclass
class _Task:
    """Some trials that a process of the cluster trains."""

    number: int
    trials: list[TrialSpec]
    starts: int = 0


class Driver:
    """Runs the tasks of one sweep; a context manager, which ends what is still running."""

    def __init__(
        self,
        context: EngineContext,
        supplies: Supplies,
        prepare: Callable[[TrialSpec], ResolvedRun],
        monitor: Monitor,
        mark: tuple[str, str],
    ) -> None:
        self._request = context.cluster
        self._supplies = supplies
        self._prepare = prepare
        self._monitor = monitor
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0, max_concurrency=1000, scheduling_strategy=here)(Board)
        self._board = actor.remote()
        device = "cpu" if context.device == "auto" and not self._request.gpus else context.device
        threads = context.threads or max(1, math.floor(self._request.cpus))
        self._job = Job(
            self._board, mark, device, context.offline, threads, context.lanes, installed()
        )
        self._running: dict[Any, _Task] = {}
        """By the reference of its answer."""
        self._again: deque[list[TrialSpec]] = deque()
        """Trials whose task could not train them, before those that have not been tried."""
        self._specs: dict[str, TrialSpec] = {}
        """By fingerprint: the trials of running tasks that have not ended."""
        self._sinks: dict[str, Sinks] = {}
        """Of the trials that train now."""
        self._failed_nodes: dict[str, Problem] = {}
        self._interrupts = Interrupts()
        self._count = 0
        """Tasks until now."""
        self._slots = 1
        """Tasks that the cluster takes at once, when it was last looked at."""
        self._counted = -math.inf

    def __enter__(self) -> Self:
        self._interrupts.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            for reference in self._running:
                ray.cancel(reference, force=True)
            for sinks in self._sinks.values():
                sinks.close(_ignored)
            ray.kill(self._board)
        finally:
            self._interrupts.__exit__(*error)

    def results(self, tasks: Iterator[list[TrialSpec]]) -> Generator[TrialResult, None, None]:
        """Train until no task is left.

        Raises:
            Interrupted: by a signal, after the running trials have been saved.
            MachineError: no node can run trials, or the driver's disk is full.
        """
        self._submit(tasks)
        while self._running:
            yield from self._messages()
            yield from self._ended_tasks()
            if self._interrupts.signum is not None:
                yield from self._stop()
            self._submit(tasks)

    def _submit(self, tasks: Iterator[list[TrialSpec]]) -> None:
        """Begin tasks while there is room for them."""
        if time.monotonic() - self._counted > COUNT_SECONDS:
            able = ray_cluster.nodes(self._request, self._failed_nodes)
            self._slots = max(1, sum(node.slots for node in able))
            self._counted = time.monotonic()
        while len(self._running) < self._slots:
            trials = self._again.popleft() if self._again else next(tasks, None)
            if trials is None:
                return
            self._count += 1
            task = _Task(self._count, trials)
            sent = {trial.fingerprint: self._supplies.sent_for(trial) for trial in trials}
            self._specs |= {trial.fingerprint: trial for trial in trials}
            train = ray.remote(
                num_cpus=self._request.cpus,
                num_gpus=self._request.gpus,
                max_retries=RETRIES,
                label_selector=self._selector(),
            )(train_trials)
            self._running[train.remote(self._job, task.number, trials, sent)] = task

    def _selector(self) -> dict[str, str] | None:
        """Which nodes may run a task: all but those that have failed."""
        if not self._failed_nodes:
            return None
        return {"ray.io/node-id": f"!in({','.join(self._failed_nodes)})"}

    def _messages(self, seconds: float = LOOK_SECONDS) -> Iterator[TrialResult]:
        """Answer what tasks have posted; yields the results among it."""
        for number, content, files in ray.get(self._board.take.remote(seconds)):
            message: Message = pickle.loads(content)
            ended: TrialResult | None = None
            if isinstance(message, Ended):
                ended = self._end(message.result, files)
                answer: Any = None
            else:
                answer = self._answer(message, files)
            if ended is not None:
                yield ended  # recorded before the task goes on
            if number is not None:
                self._board.answer.remote(number, answer)

    def _answer(self, message: Message, files: Files | None) -> Any:
        if isinstance(message, Begun):
            return self._begin(message.task)
        assert not isinstance(message, Ended)
        mark = message.fingerprint
        spec = self._specs.get(mark)
        if spec is None:  # of a process that has not noticed its end
            return isinstance(message, MayStop)
        if isinstance(message, TrialStarted):
            sinks = self._sinks[mark] = Sinks()
            sinks.make(self._monitor.started(spec), self._prepare(spec), _ignored)
        elif isinstance(message, TrialRequeued):
            self._requeue(spec)
        elif isinstance(message, Events):
            for event in message.events:
                if mark in self._sinks:
                    self._sinks[mark].on(event, _ignored)
        elif isinstance(message, MayStop):
            return self._monitor.should_stop(spec, message.evaluation)
        elif isinstance(message, Fetch):
            folder = self._directory(spec).path
            return pack(folder, run_files(folder)) if resumable(folder / "checkpoints") else None
        elif isinstance(message, Copied):
            self._unpack(spec, files)
        return None

    def _begin(self, number: int) -> set[str]:
        """A task begins, or begins again; returns what is left of it."""
        task = next((one for one in self._running.values() if one.number == number), None)
        if task is None:
            return set()
        task.starts += 1
        left = [trial for trial in task.trials if trial.fingerprint in self._specs]
        if task.starts > 1:
            self._interrupted(left, "its process died; it goes on from its last checkpoint")
        return {trial.fingerprint for trial in left}

    def _interrupted(self, trials: Sequence[TrialSpec], why: str) -> None:
        """Tell the view about trials whose task has ended before them."""
        for trial in trials:
            sinks = self._sinks.get(trial.fingerprint)
            if sinks is not None:
                sinks.on(Warned(f"{trial.name}: {why}"), _ignored)
                self._requeue(trial)

    def _requeue(self, spec: TrialSpec) -> None:
        sinks = self._sinks.pop(spec.fingerprint, None)
        if sinks is not None:
            sinks.close(_ignored)
            self._monitor.requeued(spec)

    def _end(self, result: TrialResult, files: Files | None) -> TrialResult | None:
        """Take note of a trial that has ended; None: that was known."""
        spec = self._specs.get(result.fingerprint)
        if spec is None or not self._unpack(spec, files):
            return None
        del self._specs[result.fingerprint]
        sinks = self._sinks.pop(result.fingerprint, None)
        if sinks is not None:
            sinks.close(_ignored)
        return result

    def _unpack(self, spec: TrialSpec, files: Files | None) -> bool:
        """Write the files of a trial that a node has trained on a disk of its own.

        False: the process that sent them has died meanwhile; its task begins again.
        """
        if files:
            directory = self._directory(spec)
            with writing(directory, ELSEWHERE):
                make_folder(directory.path)
                try:
                    unpack(files, directory.path)
                except ObjectLostError:
                    return False
        return True

    def _directory(self, spec: TrialSpec) -> RunDirectory:
        output = Path(spec.output)
        return find_by_fingerprint(output, spec.fingerprint) or RunDirectory(output / spec.name)

    def _ended_tasks(self) -> Iterator[TrialResult]:
        """See which tasks have ended, and what becomes of the trials that have not."""
        ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        if ready:  # what they have told lies on the board
            yield from self._messages(0.0)
        for reference in ready:
            task = self._running.pop(reference)
            left = [trial for trial in task.trials if trial.fingerprint in self._specs]
            try:
                failed = ray.get(reference)
            except TaskCancelledError:
                continue
            except RayError as error:
                yield from self._died(left, error)
            else:
                if isinstance(failed, NodeFailed):
                    self._node_failed(failed, left)

    def _died(self, left: list[TrialSpec], error: RayError) -> Iterator[TrialResult]:
        """A task was begun again too often, or has a defect: one of its trials is at fault."""
        if len(left) > 1:
            self._interrupted(left, "the process that it shared died; it goes on alone")
            self._again.extend([trial] for trial in left)
            return
        for trial in left:
            self._specs.pop(trial.fingerprint)
            sinks = self._sinks.pop(trial.fingerprint, None)
            if sinks is not None:
                sinks.close(_ignored)
            yield TrialResult(trial.fingerprint, _failure(trial, error))

    def _node_failed(self, failed: NodeFailed, left: list[TrialSpec]) -> None:
        """Use a node no more; its trials go on elsewhere.

        Raises:
            MachineError: there is no other, or the disk is the driver's too.
        """
        self._failed_nodes[failed.node] = failed.problem
        if failed.shared or not ray_cluster.nodes(self._request, self._failed_nodes):
            raise MachineError(failed.problem)
        why = f"{failed.problem.where}: {failed.problem.what}; it goes on on another node"
        self._interrupted(left, why)
        if left:
            self._again.append(left)

    def _stop(self) -> Iterator[TrialResult]:
        """Let the running tasks save, then raise.

        Raises:
            Interrupted: always.
        """
        for reference in self._running:
            ray.cancel(reference, recursive=False)  # what it asks the board is still answered
        until = time.monotonic() + SAVE_SECONDS
        while self._running and time.monotonic() < until:
            yield from self._messages()
            ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
            if ready:
                yield from self._messages(0.0)
            for reference in ready:
                del self._running[reference]
        started = [spec for mark, spec in self._specs.items() if mark in self._sinks]
        self._interrupts.check(self._job.mark[0].rpartition("/")[0], runs=len(started))


def _failure(trial: TrialSpec, error: RayError) -> Outcome:
    """The outcome of a trial that ended its process again and again, or met a defect."""
    outcome = Outcome("failed", run=trial.name)
    lines = str(error).strip().splitlines()
    if isinstance(error, OutOfMemoryError):
        return replace(outcome, reason="the node ran out of memory", hint=LESS_MEMORY)
    if isinstance(error, RayTaskError):
        hint = "results.json holds the traceback; please report it"
        reason = f"a defect: {lines[-1]}"
        return replace(outcome, reason=reason, hint=hint, traceback=str(error))
    reason = f"its process died {RETRIES + 1} times: {type(error).__name__}"
    return replace(outcome, reason=reason, hint="ray logs shows what the processes wrote")


def _ignored(text: str) -> None:
    """A view that fails is no reason to tell the user."""
