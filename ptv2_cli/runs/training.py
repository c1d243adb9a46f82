"""One run while it trains: what it makes of the loop's events, and what it writes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from ptv2_cli.config.fingerprint import dump_yaml
from ptv2_cli.files import (
    make_folder,
    refuse_link,
    remove_temporary,
    sync_folder,
    write_atomic,
)
from ptv2_cli.runs.best_score import Tracker
from ptv2_cli.runs.data_warnings import data_warnings
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.evaluation import Asked, Evaluation
from ptv2_cli.runs.lock import locked, unlocked_warning
from ptv2_cli.runs.results import (
    build_metrics,
    git_state,
    now,
    plain,
    write_bad_rows,
    write_history,
    write_json,
    write_predictions,
)
from ptv2_cli.runs.session import Session, set_up
from ptv2_cli.training.checkpoint import Save, load_checkpoint, settle
from ptv2_cli.training.events import EvalDone, Listener, Saved, Started, StepDone, Ticked, Warned
from ptv2_cli.training.lane import Lane, capture, restore

UNSYNCED = (
    "the file system cannot sync folders: a kill loses nothing, a power cut may lose the last save"
)


class TrainingRun:
    """A run on its way from its first step to its metrics.json; `Trainer` drives it."""

    def __init__(self, session: Session, listen: Listener) -> None:
        self.session = session
        self.listen = listen
        self.resolved_run = session.resolved_run
        self.directory = session.resolved_run.directory
        config = session.resolved.config
        self.config = config
        assert config.selection.metric is not None
        stopping = config.train.early_stopping
        self.tracker = Tracker(
            metric=config.selection.metric,
            mode=config.selection.mode,
            patience=stopping.patience if stopping else None,
        )
        self.training, self.plan = set_up(session)
        self.lane = Lane(self.training, self.plan)
        self.loss = torch.zeros((), device=session.device)
        """Losses of the steps since the last evaluation, added up."""
        self._task_state: dict[str, float] = {}
        """What the task tuned at the evaluation under way."""
        self._saved: tuple[int, int, int] | None = None
        """Where it was when it was last saved."""
        self._new_best = False
        """Whether the weights are the best so far, and not saved as such."""
        self._held = ExitStack()

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are scored at the chosen epoch."""
        return tuple(dict.fromkeys((self.config.selection.split, *(self.config.report or ()))))

    def begin(self, resume: bool, *, alone: bool) -> None:
        """Take hold of the directory; start anew, or go on from its last checkpoint.

        `alone`: nobody else draws from the global generator.

        Raises:
            RunError: another process writes the directory, or a folder of it is a link.
            CheckpointError: the checkpoint to go on from is damaged, or another run's.
        """
        notes = (*self.session.resolved.notes, *self.session.learner.method.notes)
        for text in (*notes, *self._about_data()):
            self.warn(text)
        self._take_hold()
        folder, at = self.directory.checkpoints, 0
        if resume and self.resolved_run.started:
            checkpoint = load_checkpoint(folder, "last", self.resolved_run.fingerprint)
            where = folder / "last.json"
            restore(self.lane, checkpoint, where, self.session.device, alone=alone)
            self.tracker = Tracker(**checkpoint.state["tracker"])
            said = self.session.warnings
            said += [text for text in checkpoint.state["warnings"] if text not in said]
            self.loss += self.tracker.loss_sum
            at = self.training.progress.step
        else:
            _clear(self.directory)
            self.tracker.started = now()
        git_state()  # as it is now; what is edited while the run goes on is not in it
        write_atomic(self.directory.config, dump_yaml(self.config.model_dump(mode="json")).encode())
        write_history(self.directory.history, self.tracker.history)
        for name, split in self.resolved_run.data.splits.items():
            write_bad_rows(self.directory.bad_rows(name), split.bad)
        self.listen(Started(self.directory.path, self.plan.steps, at, self.tracker.metric))

    def close(self) -> None:
        """Let go of the directory."""
        self._held.close()

    def after_step(self, event: StepDone) -> None:
        """Add up what the step did."""
        self.loss += event.loss
        self.tracker.loss_steps += 1
        self.tracker.rows += event.rows
        self.tracker.tokens += event.tokens

    def asked(self, split: str, state: dict[str, float] | None, check: Callable[[], None]) -> Asked:
        """An evaluation of a split that tells of its progress; `check` may raise to stop it."""
        total, done = len(self.resolved_run.data.features(split)), 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            self.listen(Ticked(split, done, total))
            check()

        return self.session.asked(split, state, tick)

    def scored(self, found: Evaluation) -> EvalDone:
        """The event of an evaluation that was due."""
        self._task_state = found.state
        step = self.training.progress.step
        epoch = step / self.training.batches.steps_per_epoch
        return EvalDone(
            step,
            epoch,
            found.scores.metrics,
            found.seconds,
            found.collapsed,
            found.loss,
            found.losses,
            self.tracker.train_loss,
        )

    def after_evaluation(self, event: EvalDone) -> None:
        """Note the scores; `save` keeps the weights if they are the best so far."""
        peak = float(self.training.optimizer.param_groups[0]["peak_lr"])
        lr = peak * self.training.scale(event.step - 1)
        self._new_best |= self.tracker.add(event, lr, self._task_state)
        self.loss.zero_()
        write_history(self.directory.history, self.tracker.history)
        if self.tracker.newly_collapsed:
            self.warn(_collapse_advice(event, self.config.train.lr))

    def add_to(self, save: Save) -> None:
        """Write all that the run needs to go on from here; it counts once `save` is committed."""
        folder, mark = self.directory.checkpoints, self.resolved_run.fingerprint
        tensors, state = capture(self.lane, self.session.device)
        state["tracker"] = self.tracker.state()
        state["warnings"] = list(self.session.warnings)
        save.add(folder, "last", mark, tensors, state)
        if self._new_best:
            save.add(folder, "best", mark, *self._best())

    def saved(self) -> None:
        """What was added counts."""
        self._saved = self._place
        for role in ("last", "best") if self._new_best else ("last",):
            self.listen(Saved(self.directory.checkpoints / f"{role}.json", role))
        self._new_best = False

    @property
    def unsaved(self) -> bool:
        """Whether it has gone on since it was saved."""
        return self._saved != self._place

    @property
    def _place(self) -> tuple[int, int, int]:
        """Step, last evaluation, batches of a step under way."""
        progress = self.training.progress
        return progress.step, progress.evaluated, self.lane.taken

    def conclude(
        self,
        status: str,
        final: dict[str, dict[str, float]],
        chosen: dict[str, Evaluation],
    ) -> dict[str, Any]:
        """Write predictions and metrics.json, whose content it returns.

        Args:
            status: finished, early_stopped or diverged.
            final: scores of splits at the last epoch.
            chosen: evaluations of splits at the chosen epoch.
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
            self.session.resolved,
            self.resolved_run.data,
            self.tracker,
            status=status,
            chosen=chosen,
            final=final,
            parameters=self.session.learner.counts(),
            device=self.session.device,
            fingerprint=self.resolved_run.fingerprint,
            warnings=self.session.warnings,
        )
        write_json(self.directory.metrics, metrics)
        return metrics

    def warn(self, text: str) -> None:
        """Tell the user something, once."""
        if text not in self.session.warnings:
            self.session.warnings.append(text)
            self.listen(Warned(text))

    def _take_hold(self) -> None:
        """Make the directory, lock it, and put in order what a killed process has left there."""
        folder = self.directory
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        make_folder(folder.path)
        if not self._held.enter_context(locked(folder.path)):
            self.listen(Warned(unlocked_warning(folder.path)))
        if not sync_folder(folder.path):
            self.listen(Warned(UNSYNCED))
        for inner in folder.folders:
            refuse_link(inner)
        settle(folder.checkpoints)
        for inner in (folder.path, *folder.folders):
            remove_temporary(inner)

    def _best(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        assert self.tracker.best is not None
        tensors = {f"learner.{k}": v for k, v in self.session.learner.own_state().items()}
        best = {k: v for k, v in self.tracker.best.items() if k != "state"}
        state = {**best, "task_state": self.tracker.best["state"]}
        if self.resolved_run.data.demonstrations:
            state["demonstrations"] = plain(self.resolved_run.data.demonstrations)
        return tensors, state

    def _warn_at_end(self, status: str, selected: Evaluation | None) -> None:
        if status == "diverged":
            self.warn(
                "loss or weights are no longer finite: lower train.lr "
                f"(now {self.config.train.lr or 0.0:g})"
            )
        elif selected is not None and selected.collapsed is not None:
            last = self.tracker.history[-1]
            event = EvalDone(last["step"], last["epoch"], {}, 0.0, selected.collapsed)
            self.warn(_collapse_advice(event, self.config.train.lr))

    def _about_data(self) -> list[str]:
        resolved, data = self.session.resolved, self.resolved_run.data
        data.features("train")
        data.features(self.config.selection.split)
        return data_warnings(resolved, data)


def _clear(directory: RunDirectory) -> None:
    """Remove what an earlier start of the same run left."""
    stale = [directory.metrics, directory.history, directory.log]
    stale += list(directory.checkpoints.glob("*"))
    stale += list(directory.path.glob("predictions/*.jsonl"))
    stale += list(directory.path.glob("*.bad.jsonl"))
    stale += list(directory.path.glob("eval/*.json"))
    for path in stale:
        path.unlink(missing_ok=True)


def _collapse_advice(event: EvalDone, lr: float | None) -> str:
    if lr is None:  # nothing trains
        return (
            f"every prediction is {event.collapsed!r}: try other words or another template "
            "(head.words, head.template), or task.demonstrations"
        )
    return (
        f"every prediction is {event.collapsed!r}: the run is stuck on one class. Try another "
        f"learning rate (now {lr:g}; ptv2 train CONFIG --lr {lr / 3:.0e} and {lr * 3:.0e}), more "
        "epochs, another prompt_len or seed"
    )
