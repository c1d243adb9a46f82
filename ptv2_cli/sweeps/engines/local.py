"""The engine that runs trials in this process, one after another or several together."""

from __future__ import annotations

import signal
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch

from ptv2_cli.errors import (
    Interrupted,
    MachineError,
    Problem,
    Ptv2Error,
    StoppedAtOnce,
    out_of_memory,
)
from ptv2_cli.runs.sinks.base import MakeSink
from ptv2_cli.runs.trainer import Trainer
from ptv2_cli.sweeps.capacity import Group, grouped
from ptv2_cli.sweeps.folder import finished
from ptv2_cli.sweeps.lane_count import Lanes
from ptv2_cli.sweeps.session_pool import Opener, free
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trial_record import DONE, Outcome
from ptv2_cli.sweeps.trials import Trial
from ptv2_cli.training.events import EvalDone

Prune = Callable[[Trial, EvalDone], bool]
"""Whether a trial is to be stopped after an evaluation."""


class Watcher(Protocol):
    """Whoever shows how the sweep goes on."""

    def began(self, trial: Trial) -> MakeSink:
        """A trial begins or goes on; the sink that this gives follows it until it ends."""

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended, well or not."""


def run_all(
    trials: Sequence[Trial],
    store: Store,
    device: torch.device,
    watcher: Watcher,
    opener: Opener | None = None,
    *,
    lanes: Lanes = 1,
    prune: Prune | None = None,
) -> None:
    """Train every trial that has not ended yet; one that fails does not stop the others.

    Args:
        trials: in the order in which they are begun, but for those that cannot share.
        store: where is written how they end.
        device: where they train.
        watcher: is told how they go on.
        opener: what has loaded or tokenized something for these trials already.
        lanes: how many trials at once share one backbone, where they can.
        prune: stops trials early, one by one; their best evaluation until then counts.

    Raises:
        ConfigError: more lanes than memory takes.
        Interrupted: by a signal; the trials and the sweep are saved.
        MachineError: the disk is full.
    """
    left = [trial for trial in trials if store.outcomes[trial.entry.fingerprint].status not in DONE]
    opener = opener or Opener(device)
    run_groups(grouped(left, lanes, opener), store, watcher, opener, prune)


def run_groups(
    found: Sequence[Group],
    store: Store,
    watcher: Watcher,
    opener: Opener,
    prune: Prune | None = None,
) -> None:
    """Train trials that have been grouped; see `run_all`.

    Raises:
        Interrupted: by a signal; the trials and the sweep are saved.
        MachineError: the disk is full.
    """
    engine = _Engine(store, watcher, opener, prune)
    for group in found:
        engine.run(group)


@dataclass
class _Running:
    """A trial under way."""

    trial: Trial
    before: Outcome


class _Unnoted(Exception):
    """The sweep's own folder cannot be written, which is no trial's fault."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Engine:
    """Carries groups of trials through; each group shares one backbone."""

    def __init__(self, store: Store, watcher: Watcher, opener: Opener, prune: Prune | None) -> None:
        self.store = store
        self.watcher = watcher
        self.opener = opener
        self.prune = prune
        self._places = 1
        self._running: dict[str, _Running] = {}
        """By fingerprint."""
        self._waiting: deque[Trial] = deque()

    def run(self, group: Group) -> None:
        """Train a group, as many at once as it has places.

        Raises:
            OSError: how the trials stand cannot be written.
        """
        try:
            self._carry(group)
        except _Unnoted as error:
            raise error.reason from None

    def _carry(self, group: Group) -> None:
        self._waiting = deque(group.trials)
        self._places = group.places
        while self._waiting:
            shared = 0
            with Trainer(self.opener.device) as trainer:
                try:
                    self._drive(trainer)
                    return
                except (Interrupted, KeyboardInterrupt, StoppedAtOnce) as error:
                    raise self._interrupted(error) from None
                except (MachineError, _Unnoted):
                    raise
                except Exception as error:
                    shared = len(self._running)
                    if not shared:  # it is no trial's fault
                        raise
                    if shared == 1:  # it is this trial's own fault
                        ((_, only),) = self._running.items()
                        self._end(only, _failed(only.trial, only.before, error))
                        if not out_of_memory(error):
                            self._places = group.places
                    else:
                        self._part(trainer)
                finally:
                    self._running.clear()
            if shared > 1:
                # Whose fault it is shows when fewer share: they go on from where they are.
                self._places = shared // 2
            free(self.opener.device)

    def _drive(self, trainer: Trainer) -> None:
        def refill() -> None:
            while self._waiting and len(trainer) < self._places:
                self._start(self._waiting.popleft(), trainer)

        for session, _ in trainer.train(refill):
            running = self._running.pop(session.resolved_run.fingerprint)
            self._end(running, finished(session.resolved_run.directory, running.before))

    def _start(self, trial: Trial, trainer: Trainer) -> None:
        """Open a trial and let it join; one that cannot begin has failed."""
        before = self.store.outcomes[trial.entry.fingerprint]
        running = _Running(trial, before)
        if trial.resolved_run is None:
            self._end(running, _refused(trial, before))
            return
        name = trial.resolved_run.directory.path.name
        self._note(trial, Outcome("running", run=name, attempts=before.attempts))
        mark = trial.entry.fingerprint
        make_sink = self.watcher.began(trial)
        try:
            with trainer.generator_preserved():
                session = self.opener.open(trial.resolved_run)
            self._running[mark] = running
            trainer.add(session, [make_sink], resume=True, stop_after=partial(self._prune, trial))
        except (Interrupted, MachineError, KeyboardInterrupt):
            raise
        except Exception as error:
            self._running.pop(mark, None)
            if out_of_memory(error) and len(trainer):  # there is no room beside the others
                self._note(trial, before)
                self._waiting.appendleft(trial)
                self._places = len(trainer)
            else:
                self._end(running, _failed(trial, before, error))

    def _prune(self, trial: Trial, event: EvalDone) -> bool:
        return self.prune is not None and self.prune(trial, event)

    def _end(self, running: _Running, outcome: Outcome) -> None:
        """A trial is over: note it, tell it, give back what it held."""
        self._note(running.trial, outcome)
        if running.trial.resolved_run is not None:
            self.opener.close(running.trial.resolved_run)
        self.watcher.ended(running.trial, outcome)

    def _note(self, trial: Trial, outcome: Outcome) -> None:
        try:
            self.store.note(trial.entry.fingerprint, outcome)
        except OSError as error:
            raise _Unnoted(error) from error

    def _part(self, trainer: Trainer) -> None:
        """Let all running trials wait again, saved, before those that have not begun."""
        trainer.save_and_release()
        self._waiting.extendleft(running.trial for running in reversed(self._running.values()))

    def _interrupted(self, error: BaseException) -> Interrupted:
        for running in self._running.values():
            assert running.trial.resolved_run is not None
            name = running.trial.resolved_run.directory.path.name
            outcome = Outcome("interrupted", run=name, attempts=running.before.attempts)
            self._note(running.trial, outcome)
        asked = [trial.entry.fingerprint for trial in self.store.prepared.trials]
        done = sum(self.store.outcomes[mark].status in DONE for mark in asked)
        told = error.problems if isinstance(error, Interrupted) else ()
        signum: int = signal.SIGINT
        if isinstance(error, Interrupted):
            signum = error.exit_code - 128
        elif isinstance(error, StoppedAtOnce):
            signum = error.signum
        what = f"interrupted; {done} of {len(asked)} trials are done and kept"
        kept = [replace(problem, hint="") for problem in told]
        return Interrupted(
            signum, *kept, Problem(str(self.store.folder), what, "the same command continues it")
        )


def _failed(trial: Trial, before: Outcome, error: Exception) -> Outcome:
    """How a start ended that went wrong."""
    resolved_run = trial.resolved_run
    assert resolved_run is not None
    failed = Outcome("failed", run=resolved_run.directory.path.name, attempts=before.attempts + 1)
    if isinstance(error, Ptv2Error):
        problem = error.problems[0]
        return replace(failed, reason=_said(problem), hint=problem.hint)
    if out_of_memory(error):
        hint = "halve train.batch_size and double train.accumulate: same result, less memory"
        return replace(failed, reason="out of memory", hint=hint)
    last = str(error).strip().splitlines()
    reason = f"a defect: {type(error).__name__}: {last[0] if last else ''}"
    hint = f"results.json holds the traceback; please report it ({resolved_run.fingerprint})"
    trace = "".join(traceback.format_exception(error))
    return replace(failed, reason=reason, hint=hint, traceback=trace)


def _refused(trial: Trial, before: Outcome) -> Outcome:
    """What cannot even begin, such as a prompt longer than the backbone's positions."""
    problem = trial.refusal[0]
    return Outcome("failed", reason=_said(problem), hint=problem.hint, attempts=before.attempts + 1)


def _said(problem: Problem) -> str:
    return f"{problem.where}: {problem.what}" if problem.where else problem.what
