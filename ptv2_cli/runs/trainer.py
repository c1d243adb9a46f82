"""Runs that train in one process, step by step together; a single run is the case of one.

All of them are saved at once: after a kill they go on from one and the same moment, and so draw
the same and share the same passes as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

import torch

from ptv2_cli.errors import Interrupted
from ptv2_cli.multiplex import Sharing
from ptv2_cli.rng import derive
from ptv2_cli.runs.directory import ELSEWHERE, writing
from ptv2_cli.runs.evaluation import Evaluation, evaluate
from ptv2_cli.runs.interrupts import Interrupts
from ptv2_cli.runs.session import Session, lower_states
from ptv2_cli.runs.training import TrainingRun
from ptv2_cli.training.checkpoint import Save
from ptv2_cli.training.events import EvalDone, Event, Listener, StepDone, Stopped, Warned
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import fit

SAVE_SECONDS = 300.0
"""Longest time between two saves of `last`."""
CPU_ROWS = 16
"""Most rows of a pass that several runs share on a CPU, where more cost memory and gain little.

Measured with MiniLM on two cores: a row takes 7 % less time in passes of 16 rows than in those of
8, 4 % less still in those of 32, and no less in those of 64 and 128.
"""

Refill = Callable[[], None]
Ended = tuple[TrainingRun, dict[str, Any]]


def rows_of_a_pass(device: torch.device) -> int | None:
    """Most rows of a pass that several runs share; None: no limit."""
    return CPU_ROWS if device.type == "cpu" else None


class Trainer:
    """Runs over one backbone that share forward passes and nothing else.

    Use it as a context manager: it handles signals, and the global generator is given back.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.interrupts = Interrupts()
        self.runs: dict[Lane, TrainingRun] = {}
        self._sharing: Sharing | None = None
        self._lanes: list[Lane] = []
        """Those of `runs` that take further steps."""
        self._over: list[tuple[TrainingRun, str]] = []
        """Runs that have stopped and are to be concluded, and how they stopped."""
        self._pruned: set[str] = set()
        self._clock = self._saved = time.perf_counter()
        self._stack = ExitStack()
        self._devices = [device] if device.type == "cuda" else []

    def __enter__(self) -> Trainer:
        self._stack.enter_context(self.apart())
        self._stack.enter_context(self.interrupts)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for run in self.runs.values():
            run.close()
        self.runs.clear()
        if self._sharing is not None and self._sharing.lower is not None:
            self._sharing.lower.close()
        self._stack.close()

    def apart(self) -> AbstractContextManager[None]:
        """Whatever is drawn meanwhile, the runs under way draw on as if it had not been."""
        return torch.random.fork_rng(devices=self._devices)

    @property
    def sharing(self) -> Sharing:
        """How the runs share forward passes, known since the first joined."""
        assert self._sharing is not None
        return self._sharing

    def join(self, run: TrainingRun, *, resume: bool) -> None:
        """A run begins, or goes on where it was, beside those that are under way.

        Raises:
            RunError: another process writes its directory.
            CheckpointError: the checkpoint to go on from is damaged.
        """
        self._split_time()
        if self._sharing is None:
            rows, lower = rows_of_a_pass(self.device), lower_states(run.session)
            self._sharing = Sharing(run.session.predictor.pad_id, rows, lower)
        alone = not self._lanes
        if alone:  # the global generator serves the backbone's own dropout
            torch.manual_seed(derive(run.config.train.seed, "dropout/backbone"))
        try:
            with writing(run.directory, ELSEWHERE):
                run.begin(resume, alone=alone)
        except BaseException:
            run.close()
            raise
        self.runs[run.lane] = run
        if run.tracker.exhausted:
            self._over.append((run, "early_stopped"))
        elif (end := run.lane.end()) is not None:
            with writing(run.directory, ELSEWHERE):
                self._handle(run, end)
        else:
            self._lanes.append(run.lane)
        self._count()
        self._clock = time.perf_counter()
        if alone:
            self._saved = self._clock

    def carry_out(self, refill: Refill) -> Iterator[Ended]:
        """Train until no run is left, yielding each that has ended with its metrics.

        Args:
            refill: called at the beginning and when places have become free; it may `join` runs.

        Raises:
            Interrupted: by a signal, after saving all runs.
        """
        try:
            refill()
            yield from self._concluded(refill)
            if not self.runs:  # nobody could begin
                return
            for events in fit(self._lanes, self.sharing, self._evaluate):
                for lane, event in events:
                    run = self.runs[lane]
                    with writing(run.directory, ELSEWHERE):
                        self._handle(run, event)
                if not all(isinstance(event, StepDone) for _, event in events):
                    self._save_all()
                if any(isinstance(event, StepDone | EvalDone) for _, event in events):
                    self._check()
                    if time.perf_counter() - self._saved > SAVE_SECONDS:
                        self._save_all()
                yield from self._concluded(refill)
        except Interrupted:
            self._save_all()
            for run in self.runs.values():
                run.listen(Warned("stopping"))
            raise

    def stop(self, fingerprint: str) -> None:
        """Stop a run that is told of its evaluation; that evaluation still counts."""
        self._pruned.add(fingerprint)

    def park(self) -> None:
        """Save every run, a step that failed to be taken anew, and let go of it."""
        self._save_all()
        for run in self.runs.values():
            run.close()
        self.runs.clear()
        self._lanes.clear()
        self._over.clear()

    def _handle(self, run: TrainingRun, event: Event) -> None:
        run.listen(event)
        if isinstance(event, StepDone):
            run.after_step(event)
        elif isinstance(event, EvalDone):
            run.after_evaluation(event)
            if run.tracker.exhausted or run.resolved_run.fingerprint in self._pruned:
                self._lanes.remove(run.lane)
                patience = run.tracker.patience if run.tracker.exhausted else None
                run.listen(Stopped("early_stopped", {"patience": patience}))
                self._over.append((run, "early_stopped"))
        elif isinstance(event, Stopped):
            self._over.append((run, event.reason))

    def _evaluate(self, lanes: Sequence[Lane]) -> list[EvalDone]:
        """Called by the loop when evaluations are due."""
        self._split_time()
        runs = [self.runs[lane] for lane in lanes]
        asked = [run.asked(run.config.selection.split, None, self._check) for run in runs]
        found = evaluate(asked, self.sharing.rows, self.sharing.lower)
        self._clock = time.perf_counter()
        return [run.scored(evaluation) for run, evaluation in zip(runs, found, strict=True)]

    def _concluded(self, refill: Refill) -> Iterator[Ended]:
        """Conclude the runs that have stopped; what takes their places may stop at once too."""
        while self._over:
            self._split_time()
            over, self._over = self._over, []
            for run, metrics in self._concluding(over):
                del self.runs[run.lane]
                run.close()
                yield run, metrics
            refill()
            self._count()
            self._clock = time.perf_counter()

    def _concluding(self, over: Sequence[tuple[TrainingRun, str]]) -> list[Ended]:
        """Scores of the reported splits at the last and at the chosen epoch; metrics.json."""
        final: dict[Lane, dict[str, dict[str, float]]] = {run.lane: {} for run, _ in over}
        chosen: dict[Lane, dict[str, Evaluation]] = {run.lane: {} for run, _ in over}
        well = [run for run, status in over if run.tracker.history and status != "diverged"]
        for run in well:
            final[run.lane][run.config.selection.split] = run.tracker.history[-1]["metrics"]
        others = {
            run: [at for at in run.config.report or () if at != run.config.selection.split]
            for run in well
        }
        states = {run: run.tracker.task_state for run in well}
        for run, split, found in self._by_split(others, states):
            final[run.lane][split] = dict(found.scores.metrics)
        best = [run for run, _ in over if run.tracker.best is not None]
        states = {run: run.session.load_best()["task_state"] for run in best}
        for run, split, found in self._by_split({run: run.splits for run in best}, states):
            chosen[run.lane][split] = found
        ended = []
        for run, status in over:
            with writing(run.directory, ELSEWHERE):
                ended.append((run, run.conclude(status, final[run.lane], chosen[run.lane])))
        return ended

    def _by_split(
        self,
        wanted: Mapping[TrainingRun, Iterable[str]],
        states: Mapping[TrainingRun, dict[str, float]],
    ) -> Iterator[tuple[TrainingRun, str, Evaluation]]:
        """Evaluations split by split; runs of a split share passes on a GPU."""
        for split in dict.fromkeys(name for names in wanted.values() for name in names):
            runs = [run for run, names in wanted.items() if split in names]
            # On a CPU by itself: a run that a kill left to be concluded gets the same bits then.
            for group in [[run] for run in runs] if self.device.type == "cpu" else [runs]:
                asked = [run.asked(split, states[run], self._check) for run in group]
                found = evaluate(asked, self.sharing.rows, self.sharing.lower)
                yield from zip(group, [split] * len(group), found, strict=True)

    def _save_all(self) -> None:
        """Save all runs as of this moment, or none of them."""
        runs = [run for run in self.runs.values() if run.unsaved]
        if runs:
            self._split_time()
            save = Save()
            for run in runs:
                with writing(run.directory, ELSEWHERE):
                    run.add_to(save)
            with writing(runs[0].directory, ELSEWHERE):
                save.commit()
            for run in runs:
                run.saved()
        self._saved = self._clock = time.perf_counter()

    def _check(self) -> None:
        """Raise Interrupted if a signal has come."""
        paths = [run.directory.path for run in self.runs.values()]
        if len(paths) == 1:
            self.interrupts.check(str(paths[0]))
        elif paths:
            self.interrupts.check(str(paths[0].parent), runs=len(paths))

    def _split_time(self) -> None:
        """Add its share of the time since the clock was started to every run."""
        for run in self.runs.values():
            run.tracker.loss_sum = float(run.loss)  # waits for the device
        now = time.perf_counter()
        for run in self.runs.values():
            run.tracker.train_seconds += (now - self._clock) / len(self.runs)
        self._clock = now

    def _count(self) -> None:
        """Tell runs, and the store of lower layers' outputs, how many share the passes."""
        for run in self.runs.values():
            run.tracker.lanes = max(run.tracker.lanes, len(self.runs))
        if self.sharing.lower is not None:
            self.sharing.lower.takers = max(1, len(self.runs))


def train(session: Session, *, resume: bool, listen: Listener) -> dict[str, Any]:
    """Train, or go on training, and write the run directory; returns metrics.json's content.

    Raises:
        Interrupted: by a signal, after saving.
        CheckpointError: the checkpoint to go on from is damaged.
    """
    run = TrainingRun(session, listen)
    with Trainer(session.device) as trainer:
        trainer.join(run, resume=resume)
        ((_, metrics),) = trainer.carry_out(lambda: None)
    return metrics
