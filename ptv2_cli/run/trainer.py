"""Train an experiment: the handlers of the loop's events, and the end of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ptv2_cli.config.fingerprint import dump_yaml
from ptv2_cli.errors import Interrupted
from ptv2_cli.run.build import learning_rates
from ptv2_cli.run.directory import RunDirectory
from ptv2_cli.run.events import Listener, Started, Ticked, Warned
from ptv2_cli.run.interrupts import Interrupts
from ptv2_cli.run.lock import locked
from ptv2_cli.run.results import (
    build_metrics,
    plain,
    write_history,
    write_json,
    write_predictions,
)
from ptv2_cli.run.scoring import Evaluation
from ptv2_cli.run.session import Session
from ptv2_cli.run.tracker import Tracker
from ptv2_cli.seeding import derive
from ptv2_cli.train.batches import BatchPlan
from ptv2_cli.train.checkpoint import load_checkpoint, save_checkpoint, write_atomic
from ptv2_cli.train.events import EvalDone, Saved, StepDone, Stopped
from ptv2_cli.train.loop import Plan, Training, fit
from ptv2_cli.train.optim import build_optimizer, build_schedule
from ptv2_cli.train.state import capture, restore

SAVE_SECONDS = 300.0
"""Longest time between two saves of `last`."""


def train(session: Session, *, resume: bool, listen: Listener) -> dict[str, Any]:
    """Train, or go on training, and write the run directory; returns metrics.json's content.

    Raises:
        Interrupted: by a signal, after saving.
        CheckpointError: the checkpoint to go on from is damaged.
    """
    return _Run(session, listen).carry_out(resume)


class _Run:
    """The state of one call of `train`: handlers of the loop's events."""

    def __init__(self, session: Session, listen: Listener) -> None:
        self.session = session
        self.listen = listen
        self.experiment = session.experiment
        self.directory = session.experiment.directory
        config = session.recipe.config
        self.config = config
        assert config.selection.metric is not None
        stopping = config.train.early_stopping
        self.tracker = Tracker(
            metric=config.selection.metric,
            mode=config.selection.mode,
            patience=stopping.patience if stopping else None,
        )
        self.interrupts = Interrupts()
        self.selected: Evaluation | None = None
        self.training, self.plan = set_up(session)
        self.loss = torch.zeros((), device=session.device)
        self.clock = time.perf_counter()
        self.saved = time.perf_counter()

    def carry_out(self, resume: bool) -> dict[str, Any]:
        """Set up, loop, finish."""
        notes = (*self.session.recipe.notes, *self.session.learner.method.notes)
        for text in (*notes, *self._about_data()):
            self._warn(text)
        self.directory.path.mkdir(parents=True, exist_ok=True)
        random = _own_random(self.config.train.seed, self.session.device)
        with locked(self.directory.path), random, self.interrupts:
            self._begin(resume)
            try:
                status = self._loop()
                return self._finish(status)
            except Interrupted:
                self.listen(Warned("stopping"))
                raise

    def _begin(self, resume: bool) -> None:
        directory, folder = self.directory, self.directory.checkpoints
        at = 0
        if resume and self.experiment.started:
            checkpoint = load_checkpoint(folder, "last")
            restore(self.training, checkpoint, folder / "last.json", self.session.device)
            self.tracker = Tracker(**checkpoint.state["tracker"])
            said = self.session.warnings
            said += [text for text in checkpoint.state["warnings"] if text not in said]
            self.loss += self.tracker.loss_sum
            at = self.training.progress.step
        else:
            _clear(directory)
        write_atomic(directory.config, dump_yaml(self.config.model_dump(mode="json")).encode())
        write_history(directory.history, self.tracker.history)
        self.listen(Started(directory, self.plan.steps, at, self.tracker.metric))
        self.clock = self.saved = time.perf_counter()

    def _loop(self) -> str:
        if self.tracker.exhausted:
            return "early_stopped"
        for event in fit(self.training, self.plan, self._evaluate):
            self.listen(event)
            if isinstance(event, StepDone):
                self._after_step(event)
            elif isinstance(event, EvalDone):
                self._after_evaluation(event)
                if self.tracker.exhausted:
                    self.listen(Stopped("early_stopped", {}))
                    return "early_stopped"
            elif isinstance(event, Stopped):
                return event.reason
        raise AssertionError("the loop ends with Stopped")

    def _after_step(self, event: StepDone) -> None:
        tracker = self.tracker
        self.loss += event.loss
        tracker.loss_steps += 1
        tracker.rows += event.rows
        tracker.tokens += event.tokens
        if self.interrupts.signum is not None or time.perf_counter() - self.saved > SAVE_SECONDS:
            self._save_last()
            self.interrupts.check(str(self.directory.path), saved=True)

    def _evaluate(self) -> EvalDone:
        """Called by the loop when an evaluation is due."""
        self._stop_clock()
        split, progress = self.config.selection.split, self.training.progress
        try:
            found = self.selected = self.session.evaluate(split, tick=self._ticker(split))
        except Interrupted:
            self._save_last()
            raise
        self.clock = time.perf_counter()
        epoch = progress.step / self.training.batches.steps_per_epoch
        return EvalDone(progress.step, epoch, found.scores.metrics, found.seconds, found.collapsed)

    def _after_evaluation(self, event: EvalDone) -> None:
        assert self.selected is not None
        peak = float(self.training.optimizer.param_groups[0]["peak_lr"])
        lr = peak * self.training.scale(event.step - 1)
        if self.tracker.add(event, lr, self.selected.state):
            self._save_best()
        self.loss.zero_()
        write_history(self.directory.history, self.tracker.history)
        if self.tracker.newly_collapsed:
            self._warn(_collapse_advice(event, self.config.train.lr))
        self._save_last()
        self.interrupts.check(str(self.directory.path), saved=True)

    def _finish(self, status: str) -> dict[str, Any]:
        """Scores of the reported splits at the last and at the chosen epoch; metrics.json."""
        report = self.config.report or ()
        selection = self.config.selection.split
        final: dict[str, Mapping[str, float]] = {}
        if self.tracker.history and status != "diverged":
            final[selection] = self.tracker.history[-1]["metrics"]
            for split in report:
                if split != selection:
                    final[split] = self._score(split, self.tracker.task_state).scores.metrics
        chosen: dict[str, Evaluation] = {}
        if self.tracker.best is not None:
            state = self.session.load_best()["task_state"]
            for split in dict.fromkeys((selection, *report)):
                chosen[split] = self._score(split, state)
        for split in report:
            if split in chosen:
                write_predictions(
                    self.directory.predictions(split),
                    self.session.recipe.task,
                    self.experiment.data.rows(split),
                    chosen[split].predictions,
                )
        self._warn_at_end(status, chosen.get(selection))
        metrics = build_metrics(
            self.session.recipe,
            self.experiment.data,
            self.tracker,
            status=status,
            chosen=chosen,
            final=final,
            parameters=self.session.learner.counts(),
            device=self.session.device,
            fingerprint=self.experiment.fingerprint,
            warnings=self.session.warnings,
        )
        write_json(self.directory.metrics, metrics)
        return metrics

    def _score(self, split: str, state: dict[str, float]) -> Evaluation:
        return self.session.evaluate(split, state, tick=self._ticker(split))

    def _warn_at_end(self, status: str, selected: Evaluation | None) -> None:
        if status == "diverged":
            self._warn(
                "loss or weights are no longer finite: lower train.lr "
                f"(now {self.config.train.lr or 0.0:g})"
            )
        elif selected is not None and selected.collapsed is not None:
            last = self.tracker.history[-1]
            event = EvalDone(last["step"], last["epoch"], {}, 0.0, selected.collapsed)
            self._warn(_collapse_advice(event, self.config.train.lr))

    def _ticker(self, split: str) -> Callable[[int], None]:
        total, done = len(self.experiment.data.features(split)), 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            self.listen(Ticked(split, done, total))
            self.interrupts.check(str(self.directory.path), saved=True)

        return tick

    def _save_last(self) -> None:
        self._stop_clock()
        tensors, state = capture(self.training, self.session.device)
        state["tracker"] = self.tracker.state()
        state["warnings"] = list(self.session.warnings)
        path = save_checkpoint(self.directory.checkpoints, "last", tensors, state)
        self.clock = self.saved = time.perf_counter()
        self.listen(Saved(path, "last"))

    def _save_best(self) -> None:
        assert self.tracker.best is not None
        tensors = {f"learner.{k}": v for k, v in self.session.learner.own_state().items()}
        best = {k: v for k, v in self.tracker.best.items() if k != "state"}
        state = {**best, "task_state": self.tracker.best["state"]}
        if self.experiment.data.demonstrations:
            state["demonstrations"] = plain(self.experiment.data.demonstrations)
        path = save_checkpoint(self.directory.checkpoints, "best", tensors, state)
        self.listen(Saved(path, "best"))

    def _stop_clock(self) -> None:
        """Add the time since the clock was started to the training time, and the loss so far."""
        self.tracker.loss_sum = float(self.loss)
        self.tracker.train_seconds += time.perf_counter() - self.clock
        self.clock = time.perf_counter()

    def _about_data(self) -> list[str]:
        data = self.experiment.data
        data.features("train")
        data.features(self.config.selection.split)
        splits = dict.fromkeys((self.config.selection.split, *(self.config.report or ())))
        overlaps = [line for split in splits for line in data.overlap_warnings(split)]
        return [*data.truncation_warnings(), *overlaps]

    def _warn(self, text: str) -> None:
        if text not in self.session.warnings:
            self.session.warnings.append(text)
            self.listen(Warned(text))


def set_up(session: Session) -> tuple[Training, Plan]:
    """The loop's moving and fixed parts, from the config."""
    recipe, device = session.recipe, session.device
    config, train = recipe.config, recipe.config.train
    batches = BatchPlan(
        features=session.experiment.data.features("train"),
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        seed=train.seed,
        pad_id=session.predictor.pad_id,
        kind=recipe.task.kind,
        mixing=recipe.task.mixing,
    )
    per_epoch = batches.steps_per_epoch
    steps = train.steps or (train.epochs or 1) * per_epoch if recipe.method.trains else 0
    optimizer = build_optimizer(
        session.learner, learning_rates(recipe, session.learner.method), train.weight_decay or 0.0
    )
    schedule = build_schedule(train.schedule, steps, train.warmup or 0.0, per_epoch)
    half = "fp16" in {train.precision, config.backbone.dtype}
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    plan = Plan(
        steps=steps,
        eval_every=per_epoch if train.eval_every == "epoch" else int(train.eval_every),
        clip=config.train.clip,
        precision=train.precision,
        device=device,
    )
    return Training(session.learner, batches, optimizer, schedule, scaler=scaler), plan


@contextmanager
def _own_random(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generator, which serves the backbone's own dropout, and give it back."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, "dropout/backbone"))
        yield


def _clear(directory: RunDirectory) -> None:
    """Remove what an earlier start of the same run left."""
    stale = [directory.metrics, directory.history, directory.log]
    stale += list(directory.checkpoints.glob("*"))
    stale += list(directory.path.glob("predictions/*.jsonl"))
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
