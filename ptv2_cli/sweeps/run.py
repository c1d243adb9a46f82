"""Run the trials of a sweep through an engine, and record how each of them ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from ptv2_cli.errors import Interrupted, Problem, StoppedAtOnce
from ptv2_cli.runs.sinks.base import MakeSink
from ptv2_cli.sweeps.engine import Engine, SilentSink, TrialSpec
from ptv2_cli.sweeps.records import DONE, Outcome
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trials import Trial
from ptv2_cli.training.events import EvalDone

ShouldStop = Callable[[Trial, EvalDone], bool]
"""Whether to prune a trial after an evaluation."""


class View(Protocol):
    """Shows the progress of a sweep."""

    def started(self, trial: Trial) -> MakeSink:
        """A trial starts or resumes; returns what makes the sink that shows its progress."""

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended."""


class Proposer(Protocol):
    """Decides on the trials of a search; see `search.Search`."""

    def specs(self, refuse: Callable[[Trial], None]) -> Iterator[TrialSpec]:
        """The trials, each decided on when it is asked for."""

    def should_stop(self, trial: Trial, evaluation: EvalDone) -> bool:
        """Whether to prune a trial after an evaluation."""

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended."""


def run_trials(
    store: Store,
    engine: Engine,
    view: View | None = None,
    should_stop: ShouldStop | None = None,
    batches: Iterable[Iterable[TrialSpec]] | None = None,
    search: Proposer | None = None,
) -> None:
    """Run every trial that has not ended; one that fails does not stop the others.

    Args:
        store: the plan, and where results are recorded.
        engine: runs the trials.
        view: shows their progress; None: nothing does.
        should_stop: whether to prune a trial after an evaluation.
        batches: what the engine gets, one after another; None: all that have not ended, at once.
        search: decides on the trials and prunes them; None: those of the store's plan are run.

    Raises:
        Interrupted: by a signal; the trials and the sweep are saved.
        MachineError: the disk is full.
        OSError: the sweep's folder cannot be written.
    """
    recorder = _Recorder(store, view, search.should_stop if search else should_stop, search)
    specs: Iterable[TrialSpec] = store.specs()
    if search is not None:
        specs = search.specs(lambda trial: recorder.end(trial, Outcome.failed(trial.refusal[0])))
    for trial in store.left():
        if trial.resolved_run is None:
            recorder.end(trial, Outcome.failed(trial.refusal[0]))
    try:
        for batch in batches or [specs]:
            with closing(engine.run(batch, recorder)) as results:
                for result in results:
                    recorder.end(recorder.trials[result.fingerprint], result.outcome)
    except (Interrupted, KeyboardInterrupt, StoppedAtOnce) as error:
        raise recorder.interrupted(error) from None


class _Recorder:
    """Writes down what an engine tells, and passes it on to the view."""

    def __init__(
        self,
        store: Store,
        view: View | None,
        should_stop: ShouldStop | None,
        search: Proposer | None,
    ) -> None:
        self._store = store
        self._view = view
        self._should_stop = should_stop
        self._search = search
        self._before = dict(store.outcomes)
        """The outcomes of earlier commands."""
        self._running: dict[str, str] = {}
        """Fingerprint -> run directory of the trials that have started and not ended."""

    @property
    def trials(self) -> dict[str, Trial]:
        """The trials of the plan by fingerprint; those of a search become more."""
        return {trial.record.fingerprint: trial for trial in self._store.plan.trials}

    def started(self, trial: TrialSpec) -> MakeSink:
        """A trial starts or resumes."""
        self._note(trial.fingerprint, Outcome("running", run=trial.name))
        self._running[trial.fingerprint] = trial.name
        if self._view is None:
            return lambda run: SilentSink()
        return self._view.started(self.trials[trial.fingerprint])

    def requeued(self, trial: TrialSpec) -> None:
        """A trial goes back to the queue."""
        del self._running[trial.fingerprint]
        self._note(trial.fingerprint, Outcome("waiting"))

    def should_stop(self, trial: TrialSpec, evaluation: EvalDone) -> bool:
        """Whether to prune a trial after an evaluation."""
        stop = self._should_stop
        return stop is not None and stop(self.trials[trial.fingerprint], evaluation)

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended."""
        self._running.pop(trial.record.fingerprint, None)
        outcome = self._note(trial.record.fingerprint, outcome)
        if self._view is not None:
            self._view.ended(trial, outcome)
        if self._search is not None:
            self._search.ended(trial, outcome)

    def interrupted(self, error: BaseException) -> Interrupted:
        """Record the trials that were running; returns what to tell the user."""
        for fingerprint, name in self._running.items():
            self._note(fingerprint, Outcome("interrupted", run=name))
        done = sum(self._store.outcomes[mark].status in DONE for mark in self.trials)
        signum: int = signal.SIGINT
        problems: tuple[Problem, ...] = ()
        if isinstance(error, Interrupted):
            signum = error.exit_code - 128
            problems = tuple(replace(problem, hint="") for problem in error.problems)
        elif isinstance(error, StoppedAtOnce):
            signum = error.signum
        what = f"interrupted; {done} of {self._store.plan.count} trials are done and kept"
        hint = "the same command continues it"
        return Interrupted(signum, *problems, Problem(str(self._store.folder), what, hint))

    def _note(self, fingerprint: str, outcome: Outcome) -> Outcome:
        """Write an outcome; counts the starts that failed, over all commands."""
        before = self._before.setdefault(fingerprint, self._store.outcomes[fingerprint])
        attempts = before.attempts + (outcome.status == "failed")
        outcome = replace(outcome, attempts=attempts)
        self._store.note(fingerprint, outcome)
        return outcome
