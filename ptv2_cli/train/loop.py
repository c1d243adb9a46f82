"""The training loop: forward, backward, clip, step, schedule; evaluate when due."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ptv2_cli.model import Learner
from ptv2_cli.tasks.collate import Batch
from ptv2_cli.train.batches import BatchPlan
from ptv2_cli.train.events import EvalDone, Event, StepDone, Stopped
from ptv2_cli.train.optim import Scale, set_rates

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
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


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision for activations; parameters that train stay fp32."""
    return torch.autocast(
        device.type, dtype=_DTYPES.get(precision), enabled=precision in _DTYPES, cache_enabled=True
    )


def fit(training: Training, plan: Plan, evaluate: Callable[[], EvalDone]) -> Iterator[Event]:
    """Train to the plan's last step, yielding events.

    Saving, logging, progress and early stopping belong to whoever consumes the events; to stop
    early it stops iterating. The order of all draws follows from `training.progress` alone, so
    a loop that is given a saved state goes on as if it had never stopped.
    """
    progress, per_epoch = training.progress, training.batches.steps_per_epoch
    loss = torch.zeros((), device=plan.device)
    groups: list[list[list[int]]] = []
    training.learner.train()
    while progress.step < plan.steps or plan.evaluation_due(progress):
        due = plan.evaluation_due(progress)
        look = due or progress.step % FINITE_EVERY == 0
        # The step after a last finite loss may have broken the weights that would be evaluated.
        if (look and not bool(loss.isfinite())) or (due and not _finite(training.optimizer)):
            yield Stopped("diverged", {"step": progress.step, "loss": float(loss)})
            return
        if due:
            done = evaluate()
            training.learner.train()
            progress.evaluated = progress.step
            yield done
            continue
        epoch, at = divmod(progress.step, per_epoch)
        if at == 0 or not groups:
            groups = training.batches.groups(epoch)
        batches = [training.batches.collate(rows) for rows in groups[at]]
        rows, tokens = (sum(getattr(b, what) for b in batches) for what in ("rows", "tokens"))
        loss = _step(training, plan, [batch.to(plan.device) for batch in batches])
        progress.step += 1
        yield StepDone(progress.step, progress.step / per_epoch, loss, rows, tokens)
    yield Stopped("finished", {})


def _finite(optimizer: Optimizer) -> bool:
    """Whether everything that trains is a number."""
    checks = [p.isfinite().all() for group in optimizer.param_groups for p in group["params"]]
    return not checks or bool(torch.stack(checks).all())


def _step(training: Training, plan: Plan, batches: list[Batch]) -> Tensor:
    """One optimizer step over a group of batches; the mean loss over all their targets."""
    optimizer, scaler = training.optimizer, training.scaler
    set_rates(optimizer, training.scale(training.progress.step))
    targets = max(1, sum(batch.targets for batch in batches))
    total = torch.zeros((), device=plan.device)
    for batch in batches:
        with autocast(plan.precision, plan.device):
            output = training.learner(batch)
        loss = output.loss * (batch.targets / targets)
        scaler.scale(loss).backward()
        total += loss.detach()
    scaler.unscale_(optimizer)
    if plan.clip is not None:
        torch.nn.utils.clip_grad_norm_(
            [p for group in optimizer.param_groups for p in group["params"]], plan.clip
        )
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return total
