"""What a run records while it trains: files and events. `Trainer` is the half that trains it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from ptv2_cli.errors import out_of_memory
from ptv2_cli.files import (
    make_folder,
    refuse_link,
    remove_temporary,
    sync_folder,
)
from ptv2_cli.runs.directory import write_config
from ptv2_cli.runs.environment import git_state, now
from ptv2_cli.runs.evaluation import Evaluation, EvaluationRequest
from ptv2_cli.runs.kept_evaluation import drop_evaluation, keep_evaluation, kept_evaluation
from ptv2_cli.runs.lock import locked, unlocked_warning
from ptv2_cli.runs.resolve.tracker_rules import make_trackers
from ptv2_cli.runs.results import (
    build_metrics,
    plain,
    write_bad_rows,
    write_history,
    write_json,
    write_predictions,
)
from ptv2_cli.runs.retention import measure_retention
from ptv2_cli.runs.rows.data_warnings import data_warnings
from ptv2_cli.runs.session import Session
from ptv2_cli.runs.sinks.base import MakeSink, Sinks
from ptv2_cli.runs.sinks.log import LogFile
from ptv2_cli.runs.training_record import TrainingRecord
from ptv2_cli.threads import go_on_with
from ptv2_cli.training.checkpoint import Checkpoint, Role, Save, load_checkpoint, recover
from ptv2_cli.training.events import (
    EvalDone,
    Finished,
    RateFound,
    RunEvent,
    Saved,
    Started,
    StepDone,
    Ticked,
    Warned,
)
from ptv2_cli.training.lr_curve import STEPS
from ptv2_cli.training.shared_checkpoint import gathered, received

UNSYNCED = (
    "the file system cannot sync folders: a kill loses nothing, a power cut may lose the last save"
)

Prune = Callable[[EvalDone], bool]
"""Whether to save a run after an evaluation and set it aside, unfinished."""


class RunRecorder:
    """The records of a run while it trains: its directory, its scores so far and its sinks.

    `Trainer` drives it: `begin`, then the `after_...` methods as its lane goes on, then `conclude`;
    `close` in any case. Where several processes train the run, all of them record its scores, and
    rank 0 alone reads and writes its directory and has sinks.
    """

    def __init__(self, session: Session, prune: Prune) -> None:
        self.session = session
        self.group = session.group
        self.prune = prune
        self.resolved_run = session.resolved_run
        self.directory = session.resolved_run.directory
        self.config = config = session.resolved.config
        assert config.selection.metric is not None
        stopping = config.train.early_stopping
        self.record = TrainingRecord(
            metric=config.selection.metric,
            mode=config.selection.mode,
            patience=stopping.patience if stopping else None,
        )
        self.lane = session.new_lane()
        self.loss = torch.zeros((), device=session.device)
        """Sum of the losses of the steps since the last evaluation."""
        self._evaluation: Evaluation | None = None
        """The last one, until it is recorded."""
        self._best_evaluation: Evaluation | None = None
        """That of the best weights so far, until it is saved beside them."""
        self._saved_at: tuple[int, int, int] | None = None
        """The lane's position at the last save; None: not saved yet."""
        self._sinks = Sinks()
        self._until_closed = ExitStack()

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are scored at the chosen epoch."""
        return tuple(dict.fromkeys((self.config.selection.split, *(self.config.report or ()))))

    @property
    def lr(self) -> float | None:
        """The learning rate; None where nothing trains."""
        lr = self.config.train.lr
        return self.record.lr if lr == "auto" else lr

    def begin(
        self,
        make_sinks: Sequence[MakeSink],
        *,
        resume: bool,
        alone: bool,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Take hold of the directory; start anew, or go on from its last checkpoint.

        Args:
            make_sinks: make the run's sinks, beside its log file.
            resume: whether to go on, if there is a checkpoint.
            alone: whether nobody else draws from the global generator.
            check: called after every step of a range test; it may raise to stop.

        Raises:
            RunError: another process writes the directory, or a folder of it is a link.
            CheckpointError: the checkpoint to go on from is damaged, or another run's.
            InputError: a sink refuses the run.
        """
        notes = [*self.session.resolved.notes, *self.session.learner.method.notes]
        notes += self._about_data()  # encodes the text, before anything is written
        read = self._open(make_sinks, resume=resume) if self.group.first else None
        checkpoint = received(read, self.lane.shared(), self.group)
        for text in notes:
            self.warn(text)
        if checkpoint is None:
            self.record.started = now()
        else:
            self._restore(checkpoint, alone=alone)
        if self.group.first:
            self._write_beginning()
        if checkpoint is None and self.session.resolved.finds_lr:
            self._find_lr(check)
        lane = self.lane
        self.emit(Started(self.directory.path, lane.steps, lane.step, self.record.metric))

    def close(self) -> None:
        """Close the sinks and release the directory."""
        self._until_closed.close()

    def emit(self, event: RunEvent) -> None:
        """Tell the sinks."""
        self._sinks.on(event, self.warn)

    def warn(self, text: str) -> None:
        """Tell the user something, once; metrics.json lists it."""
        if text not in self.session.warnings:
            self.session.warnings.append(text)
            self.emit(Warned(text))

    def after_step(self, event: StepDone) -> None:
        """Add up what the step did."""
        self.loss += event.loss
        self.record.loss_steps += 1
        self.record.rows += event.rows
        self.record.tokens += event.tokens

    def request(
        self, split: str, state: dict[str, float] | None, check: Callable[[], None]
    ) -> EvaluationRequest:
        """The evaluation of a split, which tells the sinks how far it is.

        `check` is called after every batch and may raise to stop it.
        """
        total, done = len(self.session.data.features(split)), 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            self.emit(Ticked(split, done, total))
            check()

        return self.session.request(split, state, tick)

    def scored(self, evaluation: Evaluation) -> EvalDone:
        """The event of an evaluation that was due."""
        self._evaluation = evaluation
        return EvalDone(
            self.lane.step,
            self.lane.step / self.lane.batches.steps_per_epoch,
            evaluation.scores.metrics,
            evaluation.seconds,
            evaluation.collapsed,
            evaluation.loss,
            evaluation.losses,
            self.record.train_loss,
            self.lane.averaged_steps,
        )

    def after_evaluation(self, event: EvalDone) -> None:
        """Record the scores; the next save keeps the weights if they are the best so far."""
        peak = float(self.lane.optimizer.param_groups[0]["peak_lr"])
        lr = peak * self.lane.schedule(event.step - 1)
        assert self._evaluation is not None
        if self.record.add(event, lr, self._evaluation.state):
            self._best_evaluation = self._evaluation
        self._evaluation = None
        self.loss.zero_()
        if self.group.first:
            write_history(self.directory.history, self.record.history)
        if self.record.newly_collapsed:
            self.warn(_collapse_advice(event, self.lr, writes=self._writes))

    def checkpoints(self) -> dict[Role, Checkpoint]:
        """What the run needs to go on from here, and the weights that are the best so far if new.

        All processes must call it; rank 0 has all of the weights that they share.
        """
        tensors, state = self.lane.state()
        state["tracker"] = self.record.state()
        state["warnings"] = list(self.session.warnings)
        state["threads"] = torch.get_num_threads() * self.group.size
        last = Checkpoint(gathered(tensors, self.group), state)
        contents: dict[Role, Checkpoint] = {"last": last}
        if self._best_evaluation is not None and self.record.best is not None:
            contents["best"] = self._best(self.record.best, last)
        return contents

    def add_to(self, save: Save, contents: Mapping[Role, Checkpoint]) -> None:
        """Write what `checkpoints` gave; it counts once `save` is committed."""
        folder, mark = self.directory.checkpoints, self.resolved_run.fingerprint
        for role, content in contents.items():
            save.add(folder, role, mark, content.tensors, content.state)
        if self._best_evaluation is not None and self.record.best is not None:
            step = self.record.best["step"]
            keep_evaluation(save, folder, mark, self._best_evaluation, step)

    def saved(self) -> None:
        """Note that the save was committed."""
        self._saved_at = self.lane.position
        for role in ("last", "best") if self._best_evaluation is not None else ("last",):
            self.emit(Saved(self.directory.checkpoints / f"{role}.json", role))
        self._best_evaluation = None

    @property
    def unsaved(self) -> bool:
        """Whether it has gone on since it was saved."""
        return self._saved_at != self.lane.position

    def best_evaluations(self) -> dict[str, Evaluation]:
        """Split -> evaluation at the chosen epoch, as far as it was kept."""
        split, best = self.config.selection.split, self.record.best
        if best is None:
            return {}
        folder, mark = self.directory.checkpoints, self.resolved_run.fingerprint
        kept = kept_evaluation(folder, mark, best, len(self.resolved_run.data.rows(split)))
        return {} if kept is None else {split: kept}

    def retention(self, check: Callable[[], None]) -> dict[str, Any] | None:
        """What `retention:` measures, with the weights of the chosen epoch, if it is asked for."""
        section = self.config.retention
        if section is None or self.record.best is None:
            return None

        def tick(done: int, total: int) -> None:
            self.emit(Ticked("retention", done, total))
            check()

        try:
            return measure_retention(self.session, section, tick)
        except Exception as error:
            if not out_of_memory(error):
                raise
            # The trained run is worth more than this figure.
            again = f"ptv2 eval {shlex.quote(str(self.directory.path))} --retention measures it"
            self.warn(f"retention is not measured: out of memory with a second model; {again}")
            return None

    def conclude(
        self,
        status: str,
        final: dict[str, dict[str, float]],
        chosen: dict[str, Evaluation],
        retention: dict[str, Any] | None,
        peak: int,
    ) -> dict[str, Any]:
        """Write predictions and metrics.json, whose content it returns.

        Args:
            status: finished, early_stopped or diverged.
            final: scores of splits at the last epoch.
            chosen: evaluations of splits at the chosen epoch.
            retention: what `retention` gave.
            peak: bytes, see `peak_bytes`.
        """
        for split in self.config.report or ():
            if split in chosen:
                write_predictions(
                    self.directory.predictions(split),
                    self.session.resolved.task,
                    self.resolved_run.data.rows(split),
                    chosen[split].predictions,
                )
        self._warn_at_end(status, chosen.get(self.config.selection.split))
        metrics = build_metrics(
            self.session,
            self.record,
            status=status,
            chosen=chosen,
            final=final,
            fingerprint=self.resolved_run.fingerprint,
            warnings=self.session.warnings,
            retention=retention,
            peak=peak,
        )
        drop_evaluation(self.directory.checkpoints)  # nobody would clear up after metrics.json
        write_json(self.directory.metrics, metrics)
        self.emit(Finished(metrics))
        return metrics

    def _open(self, make_sinks: Sequence[MakeSink], *, resume: bool) -> Checkpoint | None:
        """Take hold of the directory and open the sinks; returns the checkpoint to go on from."""
        about_folder = self._take_hold()
        checkpoint = None
        if resume and self.resolved_run.started:
            mark = self.resolved_run.fingerprint
            checkpoint = load_checkpoint(self.directory.checkpoints, "last", mark)
        else:
            self.directory.clear()
        self._sinks.add(LogFile(self.directory.log))
        for make in (*make_sinks, *make_trackers(self.config)):
            self._sinks.make(make, self.resolved_run, self.warn)
        for text in about_folder:
            self.emit(Warned(text))
        return checkpoint

    def _write_beginning(self) -> None:
        """Write what the directory holds from the beginning."""
        git_state()  # as it is now; what is edited while the run goes on is not in it
        write_config(self.directory.config, self.config.model_dump(mode="json"))
        write_history(self.directory.history, self.record.history)
        for name, split in self.resolved_run.data.splits.items():
            write_bad_rows(self.directory.bad_rows(name), split.bad)

    def _take_hold(self) -> list[str]:
        """Make the directory, lock it, and put in order what a killed process has left there.

        Returns what the user should know about its file system.
        """
        folder, warnings = self.directory, []
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        make_folder(folder.path)
        if not self._until_closed.enter_context(locked(folder.path)):
            warnings.append(unlocked_warning(folder.path))
        self._until_closed.callback(self._sinks.close, self.warn)
        if not sync_folder(folder.path):
            warnings.append(UNSYNCED)
        for inner in folder.folders:
            refuse_link(inner)
        recover(folder.checkpoints)
        for inner in (folder.path, *folder.folders):
            remove_temporary(inner)
        return warnings

    def _find_lr(self, check: Callable[[], None]) -> None:
        """Choose the learning rate by a range test, and keep its curve."""
        began, done = time.perf_counter(), 0

        def tick(steps: int) -> None:
            nonlocal done
            done += steps
            self.emit(Ticked("range test", done, STEPS))
            check()

        test = self.session.range_test(tick)
        self.emit(Ticked("range test", STEPS, STEPS))  # it may have ended early
        seconds = time.perf_counter() - began
        if test.failure is not None:
            self.warn(f"train.lr: auto: {test.failure}; the default {test.default:g} is taken")
        if self.group.first:
            write_json(self.directory.lr_range, {**test.plain(), "seconds": round(seconds, 3)})
        self.record.lr = test.rate
        self.lane = self.session.new_lane(test.rate)
        self.emit(RateFound(test.rate, len(test.losses), test.tried, seconds))

    def _restore(self, checkpoint: Checkpoint, *, alone: bool) -> None:
        """Go on from the checkpoint `last`."""
        self.record = TrainingRecord(**checkpoint.state["tracker"])
        if self.record.lr is not None:
            self.lane = self.session.new_lane(self.record.lr)
        self.lane.restore(checkpoint, self.directory.checkpoints / "last.json", alone=alone)
        self.loss += self.record.loss_sum
        warnings = self.session.warnings
        warnings += [text for text in checkpoint.state["warnings"] if text not in warnings]
        threads = checkpoint.state.get("threads")  # earlier versions did not keep it
        note = None if threads is None else go_on_with(threads, self.group.size, alone=alone)
        if note is not None:
            self.warn(note)

    def _best(self, record: dict[str, Any], last: Checkpoint) -> Checkpoint:
        """The checkpoint `best`, whose weights are those of `last` unless they are averaged."""
        tensors = {k: v for k, v in last.tensors.items() if k.startswith("learner.")}
        if self.lane.averaged_steps:
            with self.lane.averaged():
                state = self.session.learner.own_state()
                tensors = gathered({f"learner.{k}": v for k, v in state.items()}, self.group)
        best = {k: v for k, v in record.items() if k != "state"}
        best["task_state"] = record["state"]
        if self.resolved_run.data.demonstrations:
            best["demonstrations"] = plain(self.resolved_run.data.demonstrations)
        return Checkpoint(tensors, best)

    def _warn_at_end(self, status: str, selected: Evaluation | None) -> None:
        if status == "diverged":
            self.warn(
                f"loss or weights are no longer finite: lower train.lr (now {self.lr or 0.0:g})"
            )
        elif selected is not None and selected.collapsed is not None:
            last = self.record.history[-1]
            event = EvalDone(last["step"], last["epoch"], {}, 0.0, selected.collapsed)
            self.warn(_collapse_advice(event, self.lr, writes=self._writes))

    @property
    def _writes(self) -> bool:
        return self.session.resolved.task.kind_spec.writes

    def _about_data(self) -> list[str]:
        data = self.session.data
        data.features("train")
        data.features(self.config.selection.split)
        return data_warnings(self.session.resolved, data)


def _collapse_advice(event: EvalDone, lr: float | None, *, writes: bool) -> str:
    if writes:
        other = "" if lr is None else f"another learning rate (now {lr:g}) or prompt_len, "
        return (
            f"every text that the run writes is empty: try {other}another task.template, or "
            "generate.min_new_tokens"
        )
    if lr is None:  # nothing trains
        return (
            f"every prediction is {event.collapsed!r}: try head.calibrate: contextual, other words "
            "or another template (head.words, head.template), or task.demonstrations"
        )
    return (
        f"every prediction is {event.collapsed!r}: the run is stuck on one class. Try another "
        f"learning rate (now {lr:g}; ptv2 train CONFIG --lr {lr / 3:.0e} and {lr * 3:.0e}), more "
        "epochs, another prompt_len or seed"
    )
