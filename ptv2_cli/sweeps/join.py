"""Several `ptv2 sweep --join` of one folder train its trials together."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from ptv2_cli.runs.directory import find_by_fingerprint
from ptv2_cli.runs.lock import in_use
from ptv2_cli.runs.sinks.base import MakeSink
from ptv2_cli.sweeps.engine import Engine, SilentSink, TrialSpec
from ptv2_cli.sweeps.membership import Claim, Membership
from ptv2_cli.sweeps.options import Lanes
from ptv2_cli.sweeps.records import DONE, Outcome
from ptv2_cli.sweeps.run import ShouldStop, View, run_trials
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trials import Trial
from ptv2_cli.training.events import EvalDone

LOOK_SECONDS = 2.0
"""Between two looks at what the others do, when they have all trials that are left."""


def run_joined(
    store: Store,
    engine: Engine,
    view: View | None = None,
    should_stop: ShouldStop | None = None,
    lanes: Lanes = 1,
) -> None:
    """Train trials until all have ended, here or in the other processes that share the sweep.

    Raises:
        RunError: a process that shares with nobody writes the sweep's folder.
        Interrupted, MachineError, OSError: as `run_trials`.
    """
    with Membership(store.folder) as member:
        shared = _Shared(store, member, view, should_stop, lanes)
        run_trials(store, engine, shared, shared.should_stop, batches=shared.batches())
        store.read_again()
        if all(outcome.status in DONE for outcome in store.outcomes.values()):
            member.clear()


class _Shared:
    """The trials of the sweep, each taken before it is trained; and the view of those here."""

    def __init__(
        self,
        store: Store,
        member: Membership,
        view: View | None,
        should_stop: ShouldStop | None,
        lanes: Lanes,
    ) -> None:
        self._store = store
        self._member = member
        self._view = view
        self._should_stop = should_stop
        self._lanes = lanes
        self._over: set[str] = set()
        """Fingerprints of the trials that have ended while this command ran, here or elsewhere."""
        self._failed_before = {
            mark: claim.number
            for mark, claim in member.claims().items()
            if claim.outcome is not None and claim.outcome.status not in DONE
        }
        """Fingerprint -> number of its claim: a new command tries again what had failed before."""

    def batches(self) -> Iterator[Iterable[TrialSpec]]:
        """What the engine gets, one after another, until no trial is left."""
        while self._left():
            taken = self._taken()
            if self._lanes == 1:  # taken one at a time, when the engine has room for it
                first = next(taken, None)
                batch: Iterable[TrialSpec] = chain([first] if first else [], taken)
            else:
                first, batch = None, list(islice(taken, self._share()))
            if first or (isinstance(batch, list) and batch):
                yield batch
            else:
                time.sleep(LOOK_SECONDS)

    def started(self, trial: Trial) -> MakeSink:
        """A trial starts or resumes here."""
        return (lambda run: SilentSink()) if self._view is None else self._view.started(trial)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended here."""
        self._over.add(trial.record.fingerprint)
        self._member.end(trial.record.fingerprint, outcome)
        if self._view is not None:
            self._view.ended(trial, outcome)

    def should_stop(self, trial: Trial, evaluation: EvalDone) -> bool:
        """Whether to stop a trial that is trained here.

        Raises:
            MachineError: another process has taken it over.
        """
        self._member.require_own()
        return self._should_stop is not None and self._should_stop(trial, evaluation)

    def _taken(self) -> Iterator[TrialSpec]:
        """The trials that are free, each taken when it is asked for."""
        for trial in self._left():
            mark = trial.record.fingerprint
            claim = self._member.claims().get(mark)
            if claim is not None and in_use(self._directory(trial)):
                continue  # the process lives, though it has given no sign of it
            if claim is not None and self._failed_before.get(mark) == claim.number:
                taken = self._member.take_again(mark, claim)
            else:
                taken = self._member.take(mark)
            # It may have ended between the look and the claim.
            if taken and not self._ended_elsewhere(trial, None):
                yield self._store.spec(trial)

    def _left(self) -> list[Trial]:
        """The trials that have not ended; takes note of those that have ended elsewhere."""
        claims = self._member.claims()
        return [
            trial
            for trial in self._store.left()
            if trial.resolved_run is not None
            and trial.record.fingerprint not in self._over
            and not self._ended_elsewhere(trial, claims.get(trial.record.fingerprint))
        ]

    def _ended_elsewhere(self, trial: Trial, claim: Claim | None) -> bool:
        """Whether another process has ended a trial since this one began; takes note of it."""
        mark = trial.record.fingerprint
        run = find_by_fingerprint(self._store.output, mark)
        outcome = claim.outcome if claim is not None else None
        if claim is not None and self._failed_before.get(mark) == claim.number:
            outcome = None
        if run is not None and run.finished:
            outcome = Outcome.of_run(run)
        if outcome is None:
            return False
        self._over.add(mark)
        self._store.note(mark, outcome)
        if self._view is not None:
            self._view.ended(trial, outcome)
        return True

    def _directory(self, trial: Trial) -> Path:
        assert trial.resolved_run is not None
        return trial.resolved_run.directory.path

    def _share(self) -> int:
        """How many trials to take at once, for lanes of one backbone."""
        if self._lanes != "auto":
            return int(self._lanes)
        return max(1, len(self._left()) // (2 * self._member.count()))
