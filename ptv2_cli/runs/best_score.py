"""What a run remembers of its evaluations: the best so far, the history, when to give up."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ptv2_cli.training.events import EvalDone

COLLAPSE_AFTER = 3
"""Evaluations in a row that predict one class alone before a warning."""


@dataclass
class Tracker:
    """Saved with every checkpoint, so that a resumed run remembers what the first part saw."""

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
    """Losses of the steps since the last evaluation, added up."""
    loss_steps: int = 0
    lanes: int = 1
    """Most runs that shared its steps, itself included."""
    started: str | None = None
    """When it first started; None: unknown."""

    def add(self, done: EvalDone, lr: float, state: dict[str, float]) -> bool:
        """Note an evaluation; True if it is the best so far (the first of equals, NaN never)."""
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
                "metrics": dict(done.scores),
                "train_seconds": round(self.train_seconds, 3),
            }
        )
        self.loss_sum, self.loss_steps = 0.0, 0
        if math.isnan(value) or (self.best is not None and not self._beats(value)):
            return False
        self.best = {
            "value": value,
            "step": done.step,
            "epoch": round(done.epoch, 6),
            "evaluation": len(self.history),
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
    def newly_collapsed(self) -> bool:
        """True once, when the warning about one predicted class is due."""
        return self.collapsed == COLLAPSE_AFTER

    def state(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)

    def _beats(self, value: float) -> bool:
        assert self.best is not None
        best = float(self.best["value"])
        return value > best if self.mode == "max" else value < best
