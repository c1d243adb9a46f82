"""A lane: one trial's own part of the steps that several trials may take together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ptv2_cli.heads.base import Output
from ptv2_cli.model import Learner
from ptv2_cli.seeding import SeededDropout
from ptv2_cli.tasks.collate import Batch
from ptv2_cli.train.batches import BatchPlan
from ptv2_cli.train.events import StepDone, Stopped
from ptv2_cli.train.optim import Scale, set_rates

Precision = Literal["fp32", "bf16", "fp16"]
_Drawn = list[Tensor | None]
FINITE_EVERY = 50
"""Steps between two looks at whether the loss is still finite (each waits for the device)."""


@dataclass
class Progress:
    """Where a run is; all that the loop needs to go on from there."""

    step: int = 0
    evaluated: int = -1
    """Step of the last evaluation."""


@dataclass(frozen=True)
class Plan:
    """What the loop does, fixed for the run."""

    steps: int
    eval_every: int
    """Steps between evaluations; the last step is always followed by one."""
    clip: float | None
    precision: Precision
    device: torch.device

    def evaluation_due(self, progress: Progress) -> bool:
        """Whether the present step is to be evaluated and has not been."""
        at, done = progress.step, progress.evaluated
        # A run without a step is evaluated as it is.
        return at != done and (at >= self.steps or (at > 0 and at % self.eval_every == 0))


@dataclass
class Training:
    """The moving parts of a run: what trains, what moves it, and where it is."""

    learner: Learner
    batches: BatchPlan
    optimizer: Optimizer
    scale: Scale
    progress: Progress = field(default_factory=Progress)
    scaler: torch.amp.GradScaler = field(
        default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False)
    )
    """Scales the loss of fp16; does nothing where it is not enabled."""


class Lane:
    """A training and its plan in the loop; the backbone may be shared, all else is its own."""

    def __init__(self, training: Training, plan: Plan) -> None:
        self.training = training
        self.plan = plan
        self._loss = torch.zeros((), device=plan.device)
        """Of the last step."""
        self._groups: list[list[list[int]]] = []
        """Rows of every batch of every step of the epoch under way."""
        self._step: _Step | None = None
        self._dropouts = [m for m in training.learner.modules() if isinstance(m, SeededDropout)]
        self._before: _Drawn = []
        """How far its dropouts had drawn when the step under way began."""

    @property
    def due(self) -> bool:
        """Whether the present step is to be evaluated and has not been."""
        return self.plan.evaluation_due(self.training.progress)

    def end(self) -> Stopped | None:
        """Why the lane goes no further, None if it does."""
        progress = self.training.progress
        look = self.due or progress.step % FINITE_EVERY == 0
        # The step after a last finite loss may have broken the weights that would be evaluated.
        if (look and not bool(self._loss.isfinite())) or (
            self.due and not _finite(self.training.optimizer)
        ):
            return Stopped("diverged", {"step": progress.step, "loss": float(self._loss)})
        over = progress.step >= self.plan.steps and not self.due
        return Stopped("finished", {}) if over else None

    def next(self) -> Batch:
        """The next batch of its step, on the device."""
        if self._step is None:
            self._step = self._begin()
        return self._step.waiting.pop(0).to(self.plan.device)

    def take(self, batch: Batch, output: Output) -> Tensor:
        """Its share of the step's loss, the mean over all targets, to run backward from."""
        assert self._step is not None
        assert output.loss is not None
        loss = output.loss * (batch.targets / self._step.targets)
        self._step.loss += loss.detach()
        scaled: Tensor = self.training.scaler.scale(loss)
        return scaled

    def close(self) -> StepDone | None:
        """Clip, step and schedule, once all batches of the step have been through."""
        step = self._step
        assert step is not None
        if step.waiting:
            return None
        self._step = None
        optimizer, scaler = self.training.optimizer, self.training.scaler
        scaler.unscale_(optimizer)
        if self.plan.clip is not None:
            torch.nn.utils.clip_grad_norm_(_trained(optimizer), self.plan.clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self._loss = step.loss
        progress = self.training.progress
        progress.step += 1
        epoch = progress.step / self.training.batches.steps_per_epoch
        return StepDone(progress.step, epoch, step.loss, step.rows, step.tokens)

    @contextmanager
    def as_of_whole_step(self) -> Iterator[None]:
        """What a step under way has drawn does not count meanwhile."""
        if self._step is None:
            yield
            return
        drawn = self._drawn()
        self._draw_from(self._before)
        try:
            yield
        finally:
            self._draw_from(drawn)

    def _drawn(self) -> _Drawn:
        return [dropout.state() for dropout in self._dropouts]

    def _draw_from(self, states: _Drawn) -> None:
        for dropout, state in zip(self._dropouts, states, strict=True):
            dropout.restore(state)

    def _begin(self) -> _Step:
        self._before = self._drawn()
        batches, progress = self.training.batches, self.training.progress
        epoch, at = divmod(progress.step, batches.steps_per_epoch)
        if at == 0 or not self._groups:
            self._groups = batches.groups(epoch)
        set_rates(self.training.optimizer, self.training.scale(progress.step))
        return _Step([batches.collate(rows) for rows in self._groups[at]], self.plan.device)


class _Step:
    """An optimizer step under way."""

    def __init__(self, batches: list[Batch], device: torch.device) -> None:
        self.waiting = batches
        self.targets = sum(batch.targets for batch in batches) or 1
        self.rows = sum(batch.rows for batch in batches)
        self.tokens = sum(batch.tokens for batch in batches)
        self.loss = torch.zeros((), device=device)


def _trained(optimizer: Optimizer) -> Iterable[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _finite(optimizer: Optimizer) -> bool:
    """Whether everything that trains is a number."""
    checks = [parameter.isfinite().all() for parameter in _trained(optimizer)]
    return not checks or bool(torch.stack(checks).all())
