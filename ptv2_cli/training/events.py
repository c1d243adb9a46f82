"""What happens while a run trains, for its sinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor


@dataclass(frozen=True)
class StepDone:
    """One optimizer step. `loss` is left on its device, so that nothing waits for it."""

    step: int
    epoch: float
    loss: Tensor
    rows: int
    tokens: int


@dataclass(frozen=True)
class EvalDone:
    """One evaluation of the selection split."""

    step: int
    epoch: float
    scores: Mapping[str, float]
    seconds: float
    collapsed: str | None
    """The one label that every row was given, or None."""
    loss: float | None = None
    """Mean over the split's targets; None without gold answers."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """The same of each of several tasks, by name."""
    train_loss: float | None = None
    """Mean of the steps since the evaluation before; None without a step."""
    averaged: int = 0
    """Steps that the weights are the mean of; 0: they are those of the last step."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written."""

    path: Path
    name: Literal["last", "best"]


@dataclass(frozen=True)
class Stopped:
    """The loop ended."""

    reason: Literal["finished", "early_stopped", "diverged", "pruned"]
    """pruned: saved and set aside, unfinished; the others end the run."""
    detail: Mapping[str, Any]


Event = StepDone | EvalDone | Stopped
"""What happens in the loop."""


@dataclass(frozen=True)
class Started:
    """Training begins, or goes on."""

    directory: Path
    steps: int
    resumed_at: int
    metric: str


@dataclass(frozen=True)
class Ticked:
    """Features of a split were predicted."""

    split: str
    done: int
    total: int


@dataclass(frozen=True)
class RateFound:
    """`train.lr: auto` has chosen the learning rate, before the first step."""

    rate: float
    steps: int
    """Of the range test."""
    tried: tuple[float, float]
    """The lowest and the highest rate of the test."""
    seconds: float


@dataclass(frozen=True)
class Finished:
    """The run is over and its metrics.json written, whatever its status."""

    metrics: Mapping[str, Any]
    """The content of metrics.json."""


@dataclass(frozen=True)
class Warned:
    """Something the user should know."""

    text: str


RunEvent = Event | RateFound | Started | Saved | Ticked | Finished | Warned
"""What happens in a run."""
