"""The scores and times of a run so far: its history, the best evaluation, when to stop early."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ptv2_cli.training.events import EvalDone

COLLAPSE_AFTER = 3
"""Evaluations in a row that predict a single class before a warning."""


@dataclass
class TrainingRecord:
    """Saved with every checkpoint, so that a resumed run knows what came before."""

    metric: str
    mode: str
    patience: int | None
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    """Value, step, epoch and task state of the chosen evaluation."""
    collapsed: int = 0
    """Evaluations in a row that gave every row the same label."""
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    rows: int = 0
    tokens: int = 0
    task_state: dict[str, float] = field(default_factory=dict)
    """What the task tuned at the last evaluation."""
    loss_sum: float = 0.0
    """Sum of the losses of the steps since the last evaluation."""
    loss_steps: int = 0
    lanes: int = 1
    """Greatest number of runs that shared its steps, itself included."""
    lr: float | None = None
    """The learning rate that `train.lr: auto` chose; None: the config says it."""
    started: str | None = None
    """When it first started; None: unknown."""

    def add(self, done: EvalDone, lr: float, state: dict[str, float]) -> bool:
        """Add an evaluation; True if it is the best so far (the first of equals, NaN never)."""
        self.task_state = state
        value = done.scores.get(self.metric, math.nan)
        self.eval_seconds += done.seconds
        self.collapsed = self.collapsed + 1 if done.collapsed is not None else 0
        self.history.append(
            {
                "step": done.step,
                "epoch": round(done.epoch, 6),
                "train_loss": self.train_loss,
                "validation_loss": done.loss,
                **({"validation_losses": dict(done.losses)} if done.losses else {}),
                "lr": lr,
                **({"averaged_steps": done.averaged} if done.averaged else {}),
                "metrics": dict(done.scores),
                "train_seconds": round(self.train_seconds, 3),
            }
        )
        self.loss_sum, self.loss_steps = 0.0, 0
        if math.isnan(value) or not self._is_better(value):
            return False
        self.best = {
            "value": value,
            "step": done.step,
            "epoch": round(done.epoch, 6),
            "evaluation": len(self.history),
            **({"averaged_steps": done.averaged} if done.averaged else {}),
            "state": state,
        }
        return True

    @property
    def train_loss(self) -> float | None:
        """Mean loss of the steps since the last evaluation, None without a step."""
        return self.loss_sum / self.loss_steps if self.loss_steps else None

    @property
    def exhausted(self) -> bool:
        """Whether `patience` evaluations have passed without a better one."""
        if self.patience is None or not self.history:
            return False
        best = self.best["evaluation"] if self.best else 0
        return len(self.history) - int(best) >= self.patience

    @property
    def best_is_last(self) -> bool:
        """Whether the last evaluation is the best one."""
        return self.best is not None and self.best["evaluation"] == len(self.history)

    @property
    def newly_collapsed(self) -> bool:
        """True once, when the warning about a single predicted class is due."""
        return self.collapsed == COLLAPSE_AFTER

    def state(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return True
        best = float(self.best["value"])
        return value > best if self.mode == "max" else value < best
