"""The engine that runs trials in this process, one after another or as lanes of one backbone."""

from __future__ import annotations

import itertools
import traceback
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from ptv2_cli.errors import (
    LESS_MEMORY,
    InputError,
    Interrupted,
    MachineError,
    Ptv2Error,
    out_of_memory,
)
from ptv2_cli.memory import free
from ptv2_cli.runs.environment import choose_device
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.trainer import Trainer
from ptv2_cli.sweeps.capacity import LaneGroup, lane_groups
from ptv2_cli.sweeps.compatibility import groups
from ptv2_cli.sweeps.engine import (
    EngineContext,
    Forecast,
    Monitor,
    SilentMonitor,
    TrialResult,
    TrialSpec,
    prepare_spec,
)
from ptv2_cli.sweeps.estimate import estimate
from ptv2_cli.sweeps.options import Lanes
from ptv2_cli.sweeps.records import Outcome
from ptv2_cli.sweeps.session_pool import SessionPool
from ptv2_cli.threads import use_threads
from ptv2_cli.training.events import EvalDone

Results = Generator[TrialResult, None, None]


class LocalEngine:
    """Runs trials in this process; see `Engine`."""

    def __init__(self, context: EngineContext) -> None:
        self.pool = SessionPool(choose_device(context.device))
        self._context = context
        self._groups: list[LaneGroup] = []
        """Those of the forecast: measuring them takes time."""

    def forecast(self, trials: Sequence[TrialSpec], *, timed: bool = True) -> Forecast:
        """Group the trials by backbone, and time a few steps of some of them."""
        runs = [self._prepare(trial) for trial in trials]
        self._groups = self.lane_groups(runs)
        lines = tuple(self._describe(runs))
        alone = estimate(runs, self.pool) if timed else None
        if alone is None:
            return Forecast(lines)
        seconds = {
            run.fingerprint: alone[run.fingerprint] / (group.speedup or 1.0)
            for group in self._groups
            for run in group.runs
        }
        return Forecast(lines, seconds)

    def run(self, trials: Iterable[TrialSpec], monitor: Monitor) -> Results:
        """Train the trials: a sequence group by group, others as they come."""
        count = self._context.lanes.count
        if count == 1 or not isinstance(trials, Sequence):
            yield from self._as_they_come(trials, count, monitor)
            return
        specs = {trial.fingerprint: trial for trial in trials}
        runs = []
        for trial in trials:
            run = self._prepared(trial)
            if isinstance(run, TrialResult):
                yield run
            else:
                runs.append(run)
        for group in self._groups_of(runs):
            members = [(specs[run.fingerprint], run) for run in group.runs]
            yield from _GroupTraining(
                _Queue(members, grouped=True), group.lanes, self.pool, monitor
            ).results()

    def _as_they_come(self, trials: Iterable[TrialSpec], count: Lanes, monitor: Monitor) -> Results:
        """Take a trial whenever there is room; one that cannot join the others waits for its turn.

        For `auto` there is room for as many as the forecast's groups have lanes.
        """
        if count == "auto":
            count = max((group.lanes for group in self._groups), default=1)

        def prepared() -> Iterator[Member | TrialResult]:
            for trial in trials:
                run = self._prepared(trial)
                yield run if isinstance(run, TrialResult) else (trial, run)

        if count == 1:
            for member in prepared():
                queue = _Queue([member], grouped=True)
                yield from _GroupTraining(queue, 1, self.pool, monitor).results()
            return
        queue = _Queue(prepared())
        while queue.joins(()):
            yield from _GroupTraining(queue, int(count), self.pool, monitor).results()

    def lane_groups(self, runs: Sequence[ResolvedRun]) -> list[LaneGroup]:
        """The runs in groups, each with its number of lanes."""
        return lane_groups(runs, self._context.lanes, self.pool)

    def _prepare(self, trial: TrialSpec) -> ResolvedRun:
        return prepare_spec(trial, offline=self._context.offline, memo=self._context.memo)

    def _prepared(self, trial: TrialSpec) -> ResolvedRun | TrialResult:
        """The run of a trial, or the failure of one that cannot run."""
        try:
            return self._prepare(trial)
        except InputError as error:
            return TrialResult(trial.fingerprint, Outcome.failed(error.problems[0]))

    def _groups_of(self, runs: Sequence[ResolvedRun]) -> list[LaneGroup]:
        """The forecast's groups where it was made for these runs."""
        wanted = {run.fingerprint for run in runs}
        known = {run.fingerprint for group in self._groups for run in group.runs}
        return self._groups if wanted == known else self.lane_groups(runs)

    def _describe(self, runs: Sequence[ResolvedRun]) -> Iterator[str]:
        """How many runs are lanes of one backbone, or could be."""
        request = self._context.lanes
        if not request.where:
            sizes = [len(group) for group in groups(runs) if len(group) > 1]
            backbones = "one backbone" if len(sizes) == 1 else f"{len(sizes)} backbones"
            if sizes:
                count = f"{len(runs)} trial{'s' if len(runs) > 1 else ''}"
                yield f"{sum(sizes)} of {count} can share {backbones}: --lanes auto"
            return
        shared = [group for group in self._groups if group.lanes > 1]
        for group in shared:
            faster = f": {group.speedup:.1f} times as fast as one by one" if group.speedup else ""
            yield f"{len(group.runs)} trials on one backbone, {group.lanes} at once{faster}"
        if runs and not shared and request.count != 1:
            why = "more at once would not be faster here: they run one by one on one backbone"
            if all(len(group) == 1 for group in groups(runs)):
                why = "no two trials can share a backbone: they run one by one"
            yield f"lanes {request.count}: {why}"


def run_trial(
    spec: TrialSpec, *, device: str = "auto", offline: bool = False, threads: int | None = None
) -> TrialResult:
    """Run one trial in this process, without display: the worker of an engine elsewhere.

    The options are those of the `EngineContext`.

    Raises:
        ConfigError: no such device on this machine.
        Interrupted: by a signal, after the run has been saved.
        MachineError: the disk is full or has failed.
    """
    use_threads(threads)
    engine = LocalEngine(EngineContext(device=device, offline=offline, threads=threads))
    (result,) = engine.run([spec], SilentMonitor())
    return result


class _MonitorFailed(Exception):
    """The monitor has raised an error: the sweep is at fault, and no trial."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _monitoring() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _MonitorFailed(error) from error


Member = tuple[TrialSpec, ResolvedRun]


class _Queue:
    """The trials that have not started; each is asked for when there is room for it."""

    def __init__(self, members: Iterable[Member | TrialResult], *, grouped: bool = False) -> None:
        """Take trials from `members`, which can all share one backbone if they are `grouped`."""
        self._coming = iter(members)
        self._next: deque[Member | TrialResult] = deque()
        self._grouped = grouped

    def joins(self, runs: Sequence[ResolvedRun]) -> bool:
        """Whether a trial is left, and can share the backbone of these runs."""
        if not self._next:
            self._next.extend(itertools.islice(self._coming, 1))
        if not self._next:
            return False
        following = self._next[0]
        if self._grouped or not runs or isinstance(following, TrialResult):
            return True
        return len(groups([*runs, following[1]])) == 1

    def take(self) -> Member | TrialResult:
        """The next trial, or the result of one that cannot run."""
        return self._next.popleft()

    def put_back(self, member: Member) -> None:
        """Let a trial be the next one."""
        self._next.appendleft(member)


class _GroupTraining:
    """Trains the runs of one group, over one backbone."""

    def __init__(
        self,
        queue: _Queue,
        lanes: int,
        pool: SessionPool,
        monitor: Monitor,
    ) -> None:
        self._most = self._lanes = lanes
        self._pool = pool
        self._monitor = monitor
        self._queue = queue
        self._running: dict[str, Member] = {}
        """By fingerprint: the trials that have started and not ended."""
        self._first: ResolvedRun | None = None
        """The run whose backbone the others share."""

    def results(self) -> Results:
        """Train until no trial of the queue can join."""
        try:
            while self._queue.joins(self._group()):
                yield from self._train()
                free(self._pool.device)
        except _MonitorFailed as failed:
            raise failed.error from None

    def _train(self) -> Results:
        """Train until no trial can join, or one of the running trials fails."""
        sharing = 0
        with Trainer(self._pool.device) as trainer:
            try:
                for ended in trainer.train(lambda: self._refill(trainer)):
                    if isinstance(ended, TrialResult):
                        yield ended
                    else:
                        run = ended[0].resolved_run
                        del self._running[run.fingerprint]
                        yield self._end(run, _outcome(run, pruned=ended[1] is None))
            except (Interrupted, MachineError, _MonitorFailed):
                raise
            except Exception as error:
                sharing = len(self._running)
                if not sharing:  # no trial is at fault
                    raise
                if sharing == 1:  # this trial is at fault
                    ((_, run),) = self._running.values()
                    self._running.clear()
                    yield self._end(run, _failure(run, error))
                    if not out_of_memory(error):
                        self._lanes = self._most
                else:
                    self._requeue_all(trainer)
            finally:
                self._running.clear()
        if sharing > 1:
            # Fewer lanes show which trial is at fault; all resume from where they are.
            self._lanes = sharing // 2

    def _group(self) -> list[ResolvedRun]:
        """The runs that a further one would join: those that run, and the first of all."""
        first = [] if self._first is None else [self._first]
        return [*first, *(run for _, run in self._running.values() if run is not self._first)]

    def _refill(self, trainer: Trainer) -> Iterator[TrialResult]:
        """Start as many trials as there is room for; yields those that cannot start."""
        while len(trainer) < self._lanes and self._queue.joins(self._group()):
            following = self._queue.take()
            if isinstance(following, TrialResult):
                yield following
            elif (result := self._start(*following, trainer)) is not None:
                yield result

    def _start(self, spec: TrialSpec, run: ResolvedRun, trainer: Trainer) -> TrialResult | None:
        """Open a trial and add it to the others; one that cannot start has failed."""
        self._first = self._first or run
        with _monitoring():
            make_sink = self._monitor.started(spec)
        try:
            with trainer.generator_preserved():
                session = self._pool.open(run)
            self._running[spec.fingerprint] = spec, run
            prune = partial(self._should_stop, spec)
            trainer.add(session, [make_sink], resume=True, prune=prune)
        except (Interrupted, MachineError, KeyboardInterrupt, _MonitorFailed):
            raise
        except Exception as error:
            self._running.pop(spec.fingerprint, None)
            if out_of_memory(error) and len(trainer):  # there is no room beside the others
                self._requeue(spec, run)
                self._lanes = len(trainer)
                return None
            return self._end(run, _failure(run, error))
        return None

    def _should_stop(self, spec: TrialSpec, evaluation: EvalDone) -> bool:
        with _monitoring():
            return self._monitor.should_stop(spec, evaluation)

    def _end(self, run: ResolvedRun, outcome: Outcome) -> TrialResult:
        """Free what only this run needed."""
        self._pool.close(run)
        return TrialResult(run.fingerprint, outcome)

    def _requeue(self, spec: TrialSpec, run: ResolvedRun) -> None:
        """Put a trial back, before those that have not started."""
        with _monitoring():
            self._monitor.requeued(spec)
        self._queue.put_back((spec, run))

    def _requeue_all(self, trainer: Trainer) -> None:
        """Save the running trials and put them back in their order."""
        trainer.save_and_release()
        for spec, run in reversed(self._running.values()):
            self._requeue(spec, run)
        self._running.clear()


def _outcome(run: ResolvedRun, *, pruned: bool) -> Outcome:
    """The outcome of a trial that has ended or was set aside."""
    if not pruned:
        return Outcome.of_run(run.directory)
    selection = run.resolved.config.selection
    return Outcome.pruned(run.directory, selection.metric or "", selection.mode)


def _failure(run: ResolvedRun, error: Exception) -> Outcome:
    """The outcome of a trial that an error ended."""
    name = run.directory.path.name
    if isinstance(error, Ptv2Error):
        return Outcome.failed(error.problems[0], name)
    outcome = Outcome("failed", run=name)
    if out_of_memory(error):
        return replace(outcome, reason="out of memory", hint=LESS_MEMORY)
    lines = str(error).strip().splitlines()
    return replace(
        outcome,
        reason=f"a defect: {type(error).__name__}: {lines[0] if lines else ''}",
        hint=f"results.json holds the traceback; please report it ({run.fingerprint})",
        traceback="".join(traceback.format_exception(error)),
    )
