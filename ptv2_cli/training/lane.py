"""A lane: what one trial trains with, alone or beside others that share its backbone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.distributed.shard import is_shared, part_of
from ptv2_cli.heads.base import Output
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.inputs.batch_share import share_of
from ptv2_cli.inputs.feature_sizes import Indices
from ptv2_cli.learner import Learner
from ptv2_cli.rng import RowDraws, SeededDropout
from ptv2_cli.training.averaging import WeightAverage
from ptv2_cli.training.batches import BatchPlan
from ptv2_cli.training.checkpoint import Checkpoint, load_tensors
from ptv2_cli.training.events import StepDone, Stopped
from ptv2_cli.training.optim import (
    Schedule,
    clip_gradients,
    set_rates,
    take_step,
    trained_values,
)
from ptv2_cli.training.shared_checkpoint import shared_weights

Precision = Literal["fp32", "bf16", "fp16"]
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of a value, by torch's names."""
FINITE_EVERY = 50
"""Steps between two checks that the loss is still finite (each waits for the device)."""


@dataclass
class _OptimizerStep:
    """An optimizer step under way; one without batches has not begun."""

    waiting: list[Batch]
    loss: Tensor
    """Of the batches that have been through; the step's loss is the mean over all targets."""
    done: int = 0
    """Batches that have been through."""
    targets: float = 0
    rows: int = 0
    tokens: int = 0


@dataclass(eq=False)
class Lane:
    """What one trial trains with, and how far it is.

    The backbone of the learner may be shared with other lanes, everything else is the lane's own.
    """

    learner: Learner
    batches: BatchPlan
    optimizer: Optimizer
    schedule: Schedule
    steps: int
    """Optimizer steps in all; 0: nothing trains, and the model is evaluated once as it is."""
    eval_every: int
    """Steps between evaluations; one always follows the last step."""
    device: torch.device
    dropout_seed: int = 0
    """Of the backbone's dropout on a CPU."""
    clip: float | None = None
    """Greatest norm of all gradients together; None: no limit."""
    precision: Precision = "fp32"
    scaler: torch.amp.GradScaler = field(
        default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False)
    )
    """Scales the loss of fp16; does nothing unless it is enabled."""
    average: float | None = None
    """Share of the steps, at the end, whose weights are averaged; None: the last ones count."""
    group: ProcessGroup = ALONE
    """The processes that compute its steps together, each some rows of every batch."""
    step: int = 0
    """Steps taken."""
    evaluated: int = -1
    """The step of the last evaluation."""

    def __post_init__(self) -> None:
        self._loss = torch.zeros((), device=self.device)
        """Of the last step."""
        self._epoch: tuple[int, list[list[Indices]]] = (-1, [])
        """An epoch, and the rows of every batch of each of its steps."""
        self._step = self._no_step()
        self._dropouts = {
            name: module
            for name, module in self.learner.named_modules()
            if isinstance(module, SeededDropout)
        }
        self._before = self._dropout_states()
        """The state of its dropouts when the step under way began."""
        self._whole = True
        """Whether the last batch that it gave has been through, forward and backward."""
        self._average = None
        if self.average is not None:
            values = trained_values(self.optimizer)
            self._average = WeightAverage(values, self.steps, self.average)

    @property
    def position(self) -> tuple[int, int, int]:
        """How far it is: steps taken, step of the last evaluation, batches of the next step."""
        return self.step, self.evaluated, self._step.done

    @property
    def evaluation_due(self) -> bool:
        """Whether the present step is to be evaluated and has not been."""
        if self.step == self.evaluated:
            return False
        return self.step >= self.steps or (self.step > 0 and self.step % self.eval_every == 0)

    def end(self) -> Stopped | None:
        """Why the lane goes no further; None if it does."""
        due = self.evaluation_due
        check = due or self.step % FINITE_EVERY == 0
        # The step after a last finite loss may have broken the weights that would be evaluated.
        if (check and not bool(self._loss.isfinite())) or (due and not self._weights_finite()):
            return Stopped("diverged", {"step": self.step, "loss": float(self._loss)})
        return Stopped("finished", {}) if self.step >= self.steps and not due else None

    @property
    def averaged_steps(self) -> int:
        """How many steps the averaged weights are the mean of; 0: nothing is averaged yet."""
        return 0 if self._average is None else self._average.count(self.step)

    def averaged(self) -> AbstractContextManager[None]:
        """Give the learner its averaged weights for a while, if there are any yet.

        They are what is evaluated and saved as `best`; what trains goes on with its own.
        """
        return nullcontext() if self._average is None else self._average.in_place()

    def next_batch(self) -> Batch:
        """The next batch of its step, on the device; of several processes this one's rows of it."""
        if not self._step.waiting:
            self._begin_step()
        self._whole = False
        batch, first = self._step.waiting.pop(0), 0
        if self.group.size > 1:
            batch, share = share_of(batch, self.batches.kind, self.group.rank, self.group.size)
            first = share.first
            for dropout in self._dropouts.values():
                dropout.share = share if dropout.by_row else None
        rows, width = batch.input_ids.shape
        draws = RowDraws(self.dropout_seed, self.step, self._step.done, rows, width, first)
        return replace(batch, draws=(draws,)).to(self.device)

    def loss(self, batch: Batch, output: Output) -> Tensor:
        """The batch's share of the step's loss, to run backward from."""
        assert output.loss is not None  # rows to train on have labels
        loss = output.loss * (batch.targets / (self._step.targets or 1))
        self._step.loss += loss.detach()
        scaled: Tensor = self.scaler.scale(loss)
        return scaled

    def batch_done(self) -> bool:
        """Note that the batch has been through; whether it was the last of its step."""
        self._whole = True
        self._step.done += 1
        return not self._step.waiting

    def shared_sums(self) -> list[Tensor]:
        """What is summed over the processes before a step: its loss and the gradients.

        Those of weights that the processes share are summed in the backward pass.
        """
        values = [value for value in trained_values(self.optimizer) if not is_shared(value)]
        gradients = [value.grad for value in values if value.grad is not None]
        return [self._step.loss, *gradients]

    def clip_gradients(self) -> None:
        """Limit the norm of all gradients together."""
        self.scaler.unscale_(self.optimizer)
        clip_gradients(self.optimizer, self.clip, self.group)

    def set_learning_rates(self) -> None:
        """Set the learning rates of the step that is taken next."""
        set_rates(self.optimizer, self.schedule(self.step))

    def take_step(self) -> StepDone:
        """Move the weights."""
        take_step(self.optimizer, self.scaler)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self._average is not None:
            self._average.add(self.step)
        done, self._step, self._loss = self._step, self._no_step(), self._step.loss
        epoch = self.step / self.batches.steps_per_epoch
        return StepDone(self.step, epoch, done.loss, done.rows, done.tokens)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON from which `restore` goes on with the same bits.

        A step under way is saved with the gradients of the batches that have been through: lanes
        that train together need not end their steps together. If its last batch has failed, the
        step begins again. Of weights that processes share, and of what belongs to them, each has
        its part: see `shared_checkpoint`.
        """
        tensors = {f"learner.{name}": value for name, value in self.learner.own_state().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        tensors["lane.loss"] = self._loss
        if self._average is not None:
            tensors |= {f"average.{name}": mean for name, mean in self._average.state().items()}
        taken = self._step.done if self._whole else 0
        drawn = self._dropout_states() if self._whole else self._before
        tensors |= {f"random.{name}": state for name, state in drawn.items()}
        if taken:
            tensors["lane.step_loss"] = self._step.loss
            tensors |= {f"before.{name}": state for name, state in self._before.items()}
            for at, parameter in enumerate(trained_values(self.optimizer)):
                if parameter.grad is not None:
                    tensors[f"gradient.{at}"] = parameter.grad
        return tensors, {
            "progress": {"step": self.step, "evaluated": self.evaluated},
            "scaler": self.scaler.state_dict(),
            "taken": taken,
        }

    def shared(self) -> dict[str, Tensor]:
        """Name in `state` -> the weight it belongs to, for weights that processes share."""
        names = shared_weights(self.learner)
        for at, value in enumerate(trained_values(self.optimizer)):
            if is_shared(value):
                of_value = ("average.{}", "gradient.{}", *(f"optimizer.{{}}.{m}" for m in MOMENTS))
                names |= {name.format(at): value for name in of_value}
        return names

    def restore(self, checkpoint: Checkpoint, path: Path, *, alone: bool = True) -> None:
        """Go on from what `state` gave.

        Args:
            checkpoint: its tensors and its state.
            path: its file, to be named in errors.
            alone: whether nobody else draws from the global generator, which is set back then.

        Raises:
            CheckpointError: its tensors do not fit this lane.
        """
        tensors, state = checkpoint.tensors, checkpoint.state
        load_tensors(self.learner, checkpoint.part("learner"), path)
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = _by_index(checkpoint.part("optimizer"))
        self.optimizer.load_state_dict(optimizer)
        if alone:
            torch.set_rng_state(tensors["random.cpu"])
            if self.device.type == "cuda" and "random.cuda" in tensors:
                torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        self.step, self.evaluated = state["progress"]["step"], state["progress"]["evaluated"]
        self.scaler.load_state_dict(state["scaler"])
        for name, dropout in self._dropouts.items():
            dropout.restore(tensors.get(f"random.{name}"))
        if "lane.loss" in tensors:  # earlier versions saved whole steps and no loss
            self._loss = tensors["lane.loss"].to(self.device)
        if self._average is not None:
            self._average.restore(checkpoint.part("average"))
        if taken := state.get("taken", 0):
            self._restore_step(taken, checkpoint)

    def _restore_step(self, taken: int, checkpoint: Checkpoint) -> None:
        """Go on in a step of which some batches have been through."""
        self._begin_step()
        del self._step.waiting[:taken]
        self._step.done = taken
        # What all processes add up comes from the first; the others add nothing to it.
        share = int(self.group.first)
        self._step.loss = checkpoint.tensors["lane.step_loss"].to(self.device) * share
        self._before = checkpoint.part("before")
        for at, parameter in enumerate(trained_values(self.optimizer)):
            if (gradient := checkpoint.tensors.get(f"gradient.{at}")) is not None:
                gradient = gradient.to(parameter)
                parameter.grad = gradient if is_shared(parameter) else gradient * share

    def _begin_step(self) -> None:
        self._before = self._dropout_states()
        epoch, at = divmod(self.step, self.batches.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.batches.groups(epoch))
        batches = [self.batches.collate(rows) for rows in self._epoch[1][at]]
        self._step = _OptimizerStep(
            batches,
            torch.zeros((), device=self.device),
            targets=sum(batch.targets for batch in batches),
            rows=sum(batch.rows for batch in batches),
            tokens=sum(batch.tokens for batch in batches),
        )

    def _no_step(self) -> _OptimizerStep:
        return _OptimizerStep([], torch.zeros((), device=self.device))

    def _dropout_states(self) -> dict[str, Tensor]:
        states = ((name, dropout.state()) for name, dropout in self._dropouts.items())
        return {name: state for name, state in states if state is not None}

    def _weights_finite(self) -> bool:
        """Whether everything that trains is finite; all processes agree."""
        values = trained_values(self.optimizer)
        checks = [part_of(value).isfinite().all().to(self.device) for value in values]
        finite = not checks or bool(torch.stack(checks).all())
        if any(is_shared(value) for value in values):
            finite = not self.group.largest([int(not finite)])[0]
        return finite


def _by_index(flat: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return state
