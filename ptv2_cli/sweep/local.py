"""The engine that runs trials one after another in this process."""

from __future__ import annotations

import gc
import signal
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

import torch

from ptv2_cli.errors import Interrupted, MachineError, Problem, Ptv2Error, out_of_memory
from ptv2_cli.run.data import RunData
from ptv2_cli.run.directory import writing
from ptv2_cli.run.events import Listener
from ptv2_cli.run.experiment import Experiment
from ptv2_cli.run.session import Session, open_session
from ptv2_cli.run.trainer import train
from ptv2_cli.sweep.entry import DONE, Outcome
from ptv2_cli.sweep.folder import finished
from ptv2_cli.sweep.store import Store
from ptv2_cli.sweep.trials import Trial

_ELSEWHERE = "--output DIR writes runs elsewhere"


class Watcher(Protocol):
    """Whoever shows how the sweep goes on."""

    def trial(self, trial: Trial, experiment: Experiment) -> AbstractContextManager[Listener]:
        """A trial begins or goes on; what it tells goes to the listener until it ends."""

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended, well or not."""


class Lender:
    """Hands the features of one trial on to the next where both have the same text."""

    def __init__(self) -> None:
        self._last: tuple[tuple[object, ...], RunData] | None = None

    def lend(self, session: Session) -> None:
        """Give the session what an equal encoder has made of the same rows, and remember it."""
        data, encoder = session.experiment.data, session.experiment.data.encoder
        assert encoder is not None
        recipe = session.recipe
        made_by = (
            recipe.located.identity,
            recipe.task.kind,
            encoder.max_len,
            encoder.truncation,
            encoder.template,
            encoder.ahead,
            encoder.demonstrations,
        )
        if self._last is not None and self._last[1] is not data:
            key, earlier = self._last
            if key == made_by:
                data.borrow(earlier)
            earlier.forget()
        self._last = (made_by, data)


def run_all(
    trials: Sequence[Trial],
    store: Store,
    device: torch.device,
    watcher: Watcher,
    lender: Lender | None = None,
) -> None:
    """Train every trial that has not ended yet; one that fails does not stop the others.

    Raises:
        Interrupted: by a signal; the trial and the sweep are saved.
        MachineError: the disk is full.
    """
    lender = lender or Lender()
    for trial in trials:
        mark = trial.entry.fingerprint
        before = store.outcomes[mark]
        if before.status in DONE:
            continue
        if trial.experiment is None:
            store.note(mark, _refused(trial, before))
            watcher.ended(trial, store.outcomes[mark])
            continue
        run = trial.experiment.directory.path.name
        store.note(mark, Outcome("running", run=run, attempts=before.attempts))
        try:
            outcome = _attempt(trial, trial.experiment, before, device, watcher, lender)
        except (Interrupted, KeyboardInterrupt) as error:
            store.note(mark, Outcome("interrupted", run=run, attempts=before.attempts))
            raise _interrupted(error, store) from None
        finally:
            free(device)
        store.note(mark, outcome)
        watcher.ended(trial, outcome)


def free(device: torch.device) -> None:
    """Give back the memory of a trial that is over."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _attempt(
    trial: Trial,
    experiment: Experiment,
    before: Outcome,
    device: torch.device,
    watcher: Watcher,
    lender: Lender,
) -> Outcome:
    """One start of one trial, and how it ended."""
    failed = Outcome("failed", run=experiment.directory.path.name, attempts=before.attempts + 1)
    try:
        with (
            writing(experiment.directory, _ELSEWHERE),
            watcher.trial(trial, experiment) as listen,
        ):
            session = open_session(experiment, device)
            lender.lend(session)
            train(session, resume=True, listen=listen)
        return finished(experiment.directory, before)
    except (Interrupted, MachineError):
        raise
    except Ptv2Error as error:
        problem = error.problems[0]
        return replace(failed, reason=_said(problem), hint=problem.hint)
    except Exception as error:
        if out_of_memory(error):
            hint = "halve train.batch_size and double train.accumulate: same result, less memory"
            return replace(failed, reason="out of memory", hint=hint)
        last = str(error).strip().splitlines()
        reason = f"a defect: {type(error).__name__}: {last[0] if last else ''}"
        hint = f"results.json holds the traceback; please report it ({experiment.fingerprint})"
        return replace(failed, reason=reason, hint=hint, traceback=traceback.format_exc())


def _refused(trial: Trial, before: Outcome) -> Outcome:
    """What cannot even begin, such as a prompt longer than the backbone's positions."""
    problem = trial.refusal[0]
    return Outcome("failed", reason=_said(problem), hint=problem.hint, attempts=before.attempts + 1)


def _said(problem: Problem) -> str:
    return f"{problem.where}: {problem.what}" if problem.where else problem.what


def _interrupted(error: BaseException, store: Store) -> Interrupted:
    asked = [trial.entry.fingerprint for trial in store.prepared.trials]
    done = sum(store.outcomes[mark].status in DONE for mark in asked)
    told = error.problems if isinstance(error, Interrupted) else ()
    signum = error.exit_code - 128 if isinstance(error, Interrupted) else signal.SIGINT
    what = f"interrupted; {done} of {len(asked)} trials are done and kept"
    kept = [replace(problem, hint="") for problem in told]
    return Interrupted(
        signum, *kept, Problem(str(store.folder), what, "the same command continues it")
    )
