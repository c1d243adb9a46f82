"""A lane: one trial's own part of the steps that several trials may take together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ptv2_cli.heads.base import Output
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.learner import Learner
from ptv2_cli.rng import SeededDropout
from ptv2_cli.training.batches import BatchPlan
from ptv2_cli.training.checkpoint import Checkpoint, fit_into
from ptv2_cli.training.events import StepDone, Stopped
from ptv2_cli.training.optim import Scale, set_rates

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
        self._dropouts = [
            (name, module)
            for name, module in training.learner.named_modules()
            if isinstance(module, SeededDropout)
        ]
        self._before: _Drawn = []
        """How far its dropouts had drawn when the step under way began."""
        self._whole = True
        """Whether the batch that it gave last has been through, forward and backward."""

    @property
    def due(self) -> bool:
        """Whether the present step is to be evaluated and has not been."""
        return self.plan.evaluation_due(self.training.progress)

    @property
    def taken(self) -> int:
        """Batches of the step under way that have been through."""
        return 0 if self._step is None else self._step.taken

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
        self._whole = False
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
        self._whole = True
        step.taken += 1
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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON from which `restore` goes on with the same bits.

        A step under way is kept as far as it has come: lanes that take their steps together need
        not end them together. Where its last batch has failed, the step is to be taken anew.
        """
        step = self._step
        if step is None or not self._whole:
            drawn = self._drawn() if step is None else self._before
            return {"lane.loss": self._loss, **self._named("random", drawn)}, {"taken": 0}
        parameters = enumerate(_trained(self.training.optimizer))
        return {
            "lane.loss": self._loss,
            "lane.step_loss": step.loss,
            **{f"gradient.{at}": one.grad for at, one in parameters if one.grad is not None},
            **self._named("random", self._drawn()),
            **self._named("before", self._before),
        }, {"taken": step.taken}

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; the training's own state has been put back before."""
        device = self.plan.device
        self._draw_from([tensors.get(f"random.{name}") for name, _ in self._dropouts])
        if "lane.loss" in tensors:  # earlier versions saved whole steps and no loss
            self._loss = tensors["lane.loss"].to(device)
        if taken := state.get("taken", 0):
            self._step = self._begin()
            self._step.skip(taken, tensors["lane.step_loss"].to(device))
            self._before = [tensors.get(f"before.{name}") for name, _ in self._dropouts]
            for at, parameter in enumerate(_trained(self.training.optimizer)):
                if (gradient := tensors.get(f"gradient.{at}")) is not None:
                    parameter.grad = gradient.to(parameter)

    def _named(self, start: str, states: _Drawn) -> dict[str, Tensor]:
        names = (f"{start}.{name}" for name, _ in self._dropouts)
        found = zip(names, states, strict=True)
        return {name: state for name, state in found if state is not None}

    def _drawn(self) -> _Drawn:
        return [dropout.state() for _, dropout in self._dropouts]

    def _draw_from(self, states: _Drawn) -> None:
        for (_, dropout), state in zip(self._dropouts, states, strict=True):
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
        self.taken = 0
        """Batches that have been through."""

    def skip(self, taken: int, loss: Tensor) -> None:
        """Go on behind batches that have been through."""
        self.taken, self.loss = taken, loss
        del self.waiting[:taken]


def _trained(optimizer: Optimizer) -> Iterable[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _finite(optimizer: Optimizer) -> bool:
    """Whether everything that trains is a number."""
    checks = [parameter.isfinite().all() for parameter in _trained(optimizer)]
    return not checks or bool(torch.stack(checks).all())


def capture(lane: Lane, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON state of a lane: weights, optimizer, random states, position."""
    training = lane.training
    tensors = {f"learner.{name}": value for name, value in training.learner.own_state().items()}
    for index, values in training.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    tensors["random.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    own, state = lane.state()
    scaler = training.scaler.state_dict()
    return {**tensors, **own}, {
        "progress": asdict(training.progress),
        "scaler": scaler,
        **state,
    }


def restore(
    lane: Lane,
    checkpoint: Checkpoint,
    where: Path,
    device: torch.device,
    *,
    alone: bool = True,
) -> None:
    """Put a captured state back; that of the global generator only if nobody else draws from it.

    Raises:
        CheckpointError: its tensors do not fit this lane.
    """
    training = lane.training
    fit_into(training.learner, checkpoint.part("learner"), where)
    optimizer = training.optimizer.state_dict()
    optimizer["state"] = _by_index(checkpoint.part("optimizer"))
    training.optimizer.load_state_dict(optimizer)
    if alone:
        torch.set_rng_state(checkpoint.tensors["random.cpu"])
        if device.type == "cuda" and "random.cuda" in checkpoint.tensors:
            torch.cuda.set_rng_state(checkpoint.tensors["random.cuda"], device)
    training.progress = Progress(**checkpoint.state["progress"])
    training.scaler.load_state_dict(checkpoint.state["scaler"])
    lane.restore(checkpoint.tensors, checkpoint.state)


def _by_index(flat: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return state
