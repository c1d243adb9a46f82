"""The trainer: takes runs through the loop step by step, one alone or several side by side.

All of them are saved at once: after a kill they go on from the same moment, draw the same random
numbers and share the same passes as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, TypeVar

import torch

from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.distributed.shard import losses_noticed
from ptv2_cli.errors import Interrupted
from ptv2_cli.memory import peak_bytes
from ptv2_cli.multiplex import Sharing
from ptv2_cli.rng import BACKBONE_DROPOUT, derive
from ptv2_cli.runs.directory import ELSEWHERE, writing
from ptv2_cli.runs.evaluation import Evaluation, evaluate
from ptv2_cli.runs.interrupts import Interrupts
from ptv2_cli.runs.recorder import Prune, RunRecorder
from ptv2_cli.runs.session import Session
from ptv2_cli.runs.sinks.base import MakeSink
from ptv2_cli.threads import count_restored
from ptv2_cli.training.checkpoint import Checkpoint, Role, Save
from ptv2_cli.training.events import EvalDone, Event, StepDone, Stopped, Warned
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import fit

SAVE_SECONDS = 300.0
"""Longest time between two saves of `last`."""
CPU_ROWS = 16
"""Most rows of a pass that several runs share on a CPU, where more cost memory and gain little.

Measured with MiniLM on two cores: a row takes 7 % less time in passes of 16 rows than in those of
8, 4 % less still in those of 32, and no less in those of 64 and 128.
"""
CPU_EVALUATED_ROWS = 1
"""The same in an evaluation: each run has its own passes, which have as many rows as a CPU needs.

The predictions, which are kept, then have the same bits as those of the run alone.
"""

_T = TypeVar("_T")
Ended = tuple[Session, dict[str, Any] | None]
"""A run that has ended, and the content of its metrics.json; None if it was set aside."""


def rows_of_a_pass(device: torch.device) -> int | None:
    """Most rows of a pass that several runs share; None: no limit."""
    return CPU_ROWS if device.type == "cpu" else None


class Trainer:
    """Trains runs over one backbone that share forward passes and nothing else.

    Use it as a context manager: it handles signals, closes the runs that it holds, and puts the
    global generator and the number of threads back.
    """

    def __init__(
        self, device: torch.device, group: ProcessGroup = ALONE, *, sharded: bool = False
    ) -> None:
        """Train on a device; of several processes, each computes a share of the rows.

        Those that share the backbone (`sharded`) evaluate together: all compute all rows.
        """
        self.device = device
        self.group = group
        self._evaluators = ALONE if sharded else group
        """The processes among which the batches of an evaluation are shared out."""
        self._evaluated_alike = sharded
        self.interrupts = Interrupts()
        self.sharing = Sharing(rows_of_a_pass(device))
        """How the runs share forward passes."""
        self._evaluated_rows = CPU_EVALUATED_ROWS if device.type == "cpu" else None
        """Most rows of a pass that several runs share in an evaluation; None: no limit."""
        self._runs: dict[Lane, RunRecorder] = {}
        self._training: list[Lane] = []
        """The lanes that take further steps."""
        self._ended: list[tuple[RunRecorder, str]] = []
        """Runs that have stopped and are to be concluded, and how they stopped."""
        self._clock = self._saved = time.perf_counter()
        self._stack = ExitStack()

    def __enter__(self) -> Trainer:
        self._stack.enter_context(self.generator_preserved())
        self._stack.enter_context(count_restored())
        self._stack.enter_context(self.interrupts)
        return self

    def __exit__(self, *error: object) -> None:
        with self._stack:
            if self.sharing.lower is not None:
                self._stack.callback(self.sharing.lower.close)
            self._close_all()

    def __len__(self) -> int:
        """How many runs it holds."""
        return len(self._runs)

    def generator_preserved(self) -> AbstractContextManager[None]:
        """Set the global generator back at the end, whatever draws from it meanwhile."""
        devices = [self.device] if self.device.type == "cuda" else []
        return torch.random.fork_rng(devices=devices)

    def add(
        self,
        session: Session,
        sinks: Sequence[MakeSink] = (),
        *,
        resume: bool,
        prune: Prune = lambda event: False,
    ) -> None:
        """Begin a run, or let it go on where it was, beside those that it trains already.

        Args:
            session: the run.
            sinks: make what follows it, beside its log file; closed when it ends.
            resume: whether to go on from the run's last checkpoint, if there is one.
            prune: whether to set the run aside after an evaluation; it can go on from there.

        Raises:
            RunError: another process writes its directory.
            CheckpointError: the checkpoint to go on from is damaged.
            InputError: a sink refuses the run.
        """
        with self.generator_preserved():
            run = RunRecorder(session, prune)
        self._split_time()
        if not self._runs and self.sharing.lower is None:
            self.sharing.lower = session.lower_states()
        alone = not self._training
        if alone:  # the global generator serves the backbone's own dropout
            torch.manual_seed(derive(run.config.train.seed, BACKBONE_DROPOUT))
        try:
            with writing(run.directory, ELSEWHERE):
                run.begin(sinks, resume=resume, alone=alone, check=self._checking(run))
            if not self.group.first and self.device.type == "cuda":
                # The processes must not drop the same values of different rows.
                purpose = f"{BACKBONE_DROPOUT}/rank {self.group.rank}/step {run.lane.step}"
                torch.cuda.manual_seed(derive(run.config.train.seed, purpose))
        except BaseException:
            run.close()
            raise
        self._runs[run.lane] = run
        if run.record.exhausted:
            self._ended.append((run, "early_stopped"))
        elif (end := run.lane.end()) is not None:
            with writing(run.directory, ELSEWHERE):
                self._handle(run, end)
        else:
            self._training.append(run.lane)
        self._count_lanes()
        self._clock = time.perf_counter()
        if alone:
            self._saved = self._clock

    def train(self, refill: Callable[[], Iterable[_T]] = lambda: ()) -> Iterator[Ended | _T]:
        """Train until no run is left, yielding each that has ended.

        Args:
            refill: called at the beginning and whenever runs have ended; it may `add` others.
                What it yields, such as runs that could not be added, is yielded at once.

        Raises:
            Interrupted: by a signal, after saving all runs.
        """
        try:
            yield from refill()
            yield from self._concluded(refill)
            for events in fit(self._training, self.sharing, self._evaluate):
                for lane, event in events:
                    run = self._runs[lane]
                    with writing(run.directory, ELSEWHERE):
                        self._handle(run, event)
                if not all(isinstance(event, StepDone) for _, event in events):
                    self._save_all()
                if any(isinstance(event, StepDone | EvalDone) for _, event in events):
                    late = time.perf_counter() - self._saved > SAVE_SECONDS
                    if self._agreed(late):
                        self._save_all()
                yield from self._concluded(refill)
        except Interrupted:
            self._save_all()
            for run in self._runs.values():
                run.emit(Warned("stopping"))
            raise

    def save_and_release(self) -> None:
        """Save every run and release it; when it goes on, a step that failed begins again."""
        self._save_all()
        self._close_all()
        self._training.clear()
        self._ended.clear()

    def _close_all(self) -> None:
        with ExitStack() as closing:
            for run in self._runs.values():
                closing.callback(run.close)
            self._runs.clear()

    def _handle(self, run: RunRecorder, event: Event) -> None:
        run.emit(event)
        if isinstance(event, StepDone):
            run.after_step(event)
        elif isinstance(event, EvalDone):
            run.after_evaluation(event)
            pruned = run.prune(event)
            if run.record.exhausted:
                self._stop(run, Stopped("early_stopped", {"patience": run.record.patience}))
            elif pruned and run.lane.end() is None:
                self._stop(run, Stopped("pruned", {}))
        else:
            self._ended.append((run, event.reason))

    def _stop(self, run: RunRecorder, event: Stopped) -> None:
        """Let a run take no further step."""
        self._training.remove(run.lane)
        run.emit(event)
        self._ended.append((run, event.reason))

    def _evaluate(self, lanes: Sequence[Lane]) -> list[EvalDone]:
        """Called by the loop when evaluations are due."""
        self._split_time()
        runs = [self._runs[lane] for lane in lanes]
        check = self._evaluation_check
        requests = [run.request(run.config.selection.split, None, check) for run in runs]
        with ExitStack() as averaged:
            for lane in lanes:
                averaged.enter_context(lane.averaged())
            evaluations = evaluate(
                requests, self._evaluated_rows, self.sharing.lower, self._evaluators
            )
        self._clock = time.perf_counter()
        return [run.scored(done) for run, done in zip(runs, evaluations, strict=True)]

    def _concluded(self, refill: Callable[[], Iterable[_T]]) -> Iterator[Ended | _T]:
        """Conclude the runs that have stopped; what takes their places may stop at once too."""
        while self._ended:
            self._split_time()
            ended, self._ended = self._ended, []
            # Those set aside were saved after the evaluation that they ended with.
            aside: list[tuple[RunRecorder, dict[str, Any] | None]]
            aside = [(run, None) for run, reason in ended if reason == "pruned"]
            others = [each for each in ended if each[1] != "pruned"]
            for run, metrics in [*aside, *self._conclude(others)]:
                del self._runs[run.lane]
                run.close()
                yield run.session, metrics
            yield from refill()
            self._count_lanes()
            self._clock = time.perf_counter()

    def _conclude(
        self, ended: Sequence[tuple[RunRecorder, str]]
    ) -> list[tuple[RunRecorder, dict[str, Any]]]:
        """Scores of the reported splits at the last and at the chosen epoch; metrics.json.

        The selection split was evaluated at both already, and where the two are one epoch, the
        other splits are evaluated once.
        """
        final: dict[RunRecorder, dict[str, dict[str, float]]] = {run: {} for run, _ in ended}
        chosen = {run: self.group.by_first(run.best_evaluations) for run, _ in ended}
        well = [run for run, status in ended if run.record.history and status != "diverged"]
        for run in well:
            final[run][run.config.selection.split] = run.record.history[-1]["metrics"]
        others = {
            run: [name for name in run.config.report or () if name != run.config.selection.split]
            for run in well
            if not run.record.best_is_last
        }
        states = {run: run.record.task_state for run in others}
        with ExitStack() as averaged:
            for run in others:
                averaged.enter_context(run.lane.averaged())
            for run, split, evaluation in self._by_split(others, states):
                final[run][split] = dict(evaluation.scores.metrics)
        best = [run for run, _ in ended if run.record.best is not None]
        states = {run: run.session.load_best()["task_state"] for run in best}
        missing = {run: [name for name in run.splits if name not in chosen[run]] for run in best}
        for run, split, evaluation in self._by_split(missing, states):
            chosen[run][split] = evaluation
        for run in well:
            if run.record.best_is_last:
                final[run] |= {name: found.scores.metrics for name, found in chosen[run].items()}
        concluded = []
        for run, status in ended:
            retention = None
            with self.group.together():
                if self.group.first:
                    retention = run.retention(self._raise_if_interrupted)
            peak = max(self.group.gather(peak_bytes(self.device)))
            with writing(run.directory, ELSEWHERE):
                conclude = partial(run.conclude, status, final[run], chosen[run], retention, peak)
                metrics = self.group.by_first(conclude)
            concluded.append((run, metrics))
        return concluded

    def _by_split(
        self,
        splits: Mapping[RunRecorder, Iterable[str]],
        states: Mapping[RunRecorder, dict[str, float]],
    ) -> Iterator[tuple[RunRecorder, str, Evaluation]]:
        """Evaluations split by split; runs of a split share passes on a GPU."""
        for split in dict.fromkeys(name for names in splits.values() for name in names):
            runs = [run for run, names in splits.items() if split in names]
            # On a CPU, where passes are not shared, the outputs of one run at a time are enough.
            for group in [[run] for run in runs] if self.device.type == "cpu" else [runs]:
                check = self._evaluation_check
                requests = [run.request(split, states[run], check) for run in group]
                evaluations = evaluate(
                    requests, self._evaluated_rows, self.sharing.lower, self._evaluators
                )
                yield from zip(group, [split] * len(group), evaluations, strict=True)

    def _save_all(self) -> None:
        """Save all runs as of this moment, or none of them."""
        runs = [run for run in self._runs.values() if run.unsaved]
        if runs:
            self._split_time()
            contents = [run.checkpoints() for run in runs]
            with self.group.together():  # nobody goes on, or ends, before the files are there
                if self.group.first:
                    self._write(runs, contents)
            del contents
            for run in runs:
                run.saved()
        self._saved = self._clock = time.perf_counter()

    def _write(
        self, runs: Sequence[RunRecorder], contents: Sequence[Mapping[Role, Checkpoint]]
    ) -> None:
        """Write the checkpoints of these runs."""
        save = Save()
        for run, content in zip(runs, contents, strict=True):
            with writing(run.directory, ELSEWHERE):
                run.add_to(save, content)
        with writing(runs[0].directory, ELSEWHERE):
            save.commit()

    def _agreed(self, wish: bool) -> bool:
        """Whether any process wishes it; raises Interrupted if a signal has come to any of them.

        All processes of the run must call it at the same step.
        """
        signum, wished = self.group.largest([self.interrupts.signum or 0, int(wish)])
        self._raise_if_interrupted(signum or None)
        return bool(wished)

    def _evaluation_check(self) -> None:
        """Raise Interrupted if a signal has come; in all processes if they evaluate together."""
        if self._evaluated_alike:
            self._agreed(False)
        else:
            self._raise_if_interrupted()

    def _raise_if_interrupted(self, signum: int | None = None) -> None:
        """Raise Interrupted if a signal has come, to this process or, with `signum`, to another."""
        paths = [run.directory.path for run in self._runs.values()]
        if len(paths) == 1:
            self.interrupts.check(str(paths[0]), signum=signum)
        elif paths:
            self.interrupts.check(str(paths[0].parent), runs=len(paths), signum=signum)

    def _checking(self, run: RunRecorder) -> Callable[[], None]:
        """What raises Interrupted if a signal has come to any process while a run begins."""

        def check() -> None:
            (signum,) = self.group.largest([self.interrupts.signum or 0])
            self.interrupts.check(str(run.directory.path), signum=signum or None)

        return check

    def _split_time(self) -> None:
        """Add to every run its share of the time since the clock was started."""
        for run in self._runs.values():
            run.record.loss_sum = float(run.loss)  # waits for the device
        now = time.perf_counter()
        for run in self._runs.values():
            run.record.train_seconds += (now - self._clock) / len(self._runs)
        self._clock = now

    def _count_lanes(self) -> None:
        """Tell runs, and the store of lower layers' outputs, how many share the passes."""
        for run in self._runs.values():
            run.record.lanes = max(run.record.lanes, len(self._runs))
        if self.sharing.lower is not None:
            self.sharing.lower.takers = max(1, len(self._runs))


def train(
    session: Session, sinks: Sequence[MakeSink] = (), *, resume: bool = True
) -> dict[str, Any]:
    """Train, or go on training, and write the run directory; returns metrics.json's content.

    Args:
        session: the run.
        sinks: make what follows it, beside its log file.
        resume: whether to go on from the run's last checkpoint, if there is one.

    Raises:
        Interrupted: by a signal, after saving.
        CheckpointError: the checkpoint to go on from is damaged.
        InputError: a sink refuses the run.
    """
    group, sharded = session.group, session.sharded
    with losses_noticed(group), Trainer(session.device, group, sharded=sharded) as trainer:
        trainer.add(session, sinks, resume=resume)
        ((_, metrics),) = trainer.train()
    assert metrics is not None  # nobody sets it aside
    return metrics
