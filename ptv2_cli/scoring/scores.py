"""Predictions, the scores that they get, and the arrays in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Prediction = Any
"""The prediction of one row: a mapping, whose keys depend on the kind of task, or a number."""
Array = npt.NDArray[np.float32]
Statistics = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores as fractions in [0, 1], their finer detail and their spread."""

    metrics: dict[str, float]
    detail: dict[str, Any] = field(default_factory=dict)
    standard_error: float | None = None
    """Of the task's main metric."""
    standard_errors: dict[str, float] = field(default_factory=dict)
    """Of every metric that has one, for runs that select by another than the main metric."""
