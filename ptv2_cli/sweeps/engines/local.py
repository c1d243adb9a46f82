"""The engine that runs trials in this process, one after another or as lanes of one backbone."""

from __future__ import annotations

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
from ptv2_cli.sweeps.records import Outcome
from ptv2_cli.sweeps.session_pool import SessionPool, free
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
        """Train the trials, group by group."""
        one_by_one = self._context.lanes.count == 1
        for batch in ([trial] for trial in trials) if one_by_one else [list(trials)]:
            specs = {trial.fingerprint: trial for trial in batch}
            runs = []
            for trial in batch:
                try:
                    runs.append(self._prepare(trial))
                except InputError as error:
                    yield TrialResult(trial.fingerprint, Outcome.failed(error.problems[0]))
            for group in self._groups_of(runs):
                members = [(specs[run.fingerprint], run) for run in group.runs]
                yield from _GroupTraining(members, group.lanes, self.pool, monitor).results()

    def lane_groups(self, runs: Sequence[ResolvedRun]) -> list[LaneGroup]:
        """The runs in groups, each with its number of lanes."""
        return lane_groups(runs, self._context.lanes, self.pool)

    def _prepare(self, trial: TrialSpec) -> ResolvedRun:
        return prepare_spec(trial, offline=self._context.offline, memo=self._context.memo)

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


class _GroupTraining:
    """Trains the runs of one group, over one backbone."""

    def __init__(
        self,
        members: Sequence[Member],
        lanes: int,
        pool: SessionPool,
        monitor: Monitor,
    ) -> None:
        self._most = self._lanes = lanes
        self._pool = pool
        self._monitor = monitor
        self._queue = deque(members)
        self._running: dict[str, Member] = {}
        """By fingerprint: the trials that have started and not ended."""

    def results(self) -> Results:
        """Train until the queue is empty."""
        try:
            while self._queue:
                yield from self._train()
                free(self._pool.device)
        except _MonitorFailed as failed:
            raise failed.error from None

    def _train(self) -> Results:
        """Train until the queue is empty, or one of the running trials fails."""
        sharing = 0
        with Trainer(self._pool.device) as trainer:
            try:
                for ended in trainer.train(lambda: self._refill(trainer)):
                    if isinstance(ended, TrialResult):
                        yield ended
                    else:
                        run = ended[0].resolved_run
                        del self._running[run.fingerprint]
                        yield self._end(run, Outcome.of_run(run.directory))
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

    def _refill(self, trainer: Trainer) -> Iterator[TrialResult]:
        """Start as many trials as there is room for; yields those that cannot start."""
        while self._queue and len(trainer) < self._lanes:
            result = self._start(*self._queue.popleft(), trainer)
            if result is not None:
                yield result

    def _start(self, spec: TrialSpec, run: ResolvedRun, trainer: Trainer) -> TrialResult | None:
        """Open a trial and add it to the others; one that cannot start has failed."""
        with _monitoring():
            make_sink = self._monitor.started(spec)
        try:
            with trainer.generator_preserved():
                session = self._pool.open(run)
            self._running[spec.fingerprint] = spec, run
            stop_after = partial(self._should_stop, spec)
            trainer.add(session, [make_sink], resume=True, stop_after=stop_after)
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
        self._queue.appendleft((spec, run))

    def _requeue_all(self, trainer: Trainer) -> None:
        """Save the running trials and put them back in their order."""
        trainer.save_and_release()
        for spec, run in reversed(self._running.values()):
            self._requeue(spec, run)
        self._running.clear()


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
