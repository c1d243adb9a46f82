"""A trial as plan.json keeps it, and how it ended as results.json keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ptv2_cli.errors import Problem

Status = Literal[
    "waiting", "running", "interrupted", "finished", "early_stopped", "diverged", "failed"
]
DONE = frozenset({"finished", "early_stopped", "diverged"})
"""The run has ended and stands; the same command does not train it again."""
SCORED = frozenset({"finished", "early_stopped"})
"""The run counts in the table; one that diverged is shown with its reason."""


@dataclass(frozen=True)
class TrialRecord:
    """What a trial is."""

    fingerprint: str
    setting: str
    """Fingerprint of all but the seed: equal for the trials whose mean is taken."""
    config: str
    """Name of its config."""
    values: Mapping[str, Any]
    """Swept key -> value, without the seed."""
    seed: int
    task: str
    split: str
    metric: str | None
    mode: str
    refused: bool = False
    """It could not be prepared, so that its fingerprint is that of the config as written."""


@dataclass(frozen=True)
class Outcome:
    """How far a trial has come."""

    status: Status = "waiting"
    value: float | None = None
    """Selection metric at the chosen epoch, a fraction."""
    run: str | None = None
    """Name of its directory in the output folder."""
    seconds: float | None = None
    """Training time, over all starts."""
    reason: str | None = None
    hint: str | None = None
    attempts: int = 0
    """Starts that failed."""
    traceback: str | None = field(default=None, repr=False)
    """Of a defect."""

    @classmethod
    def failed(cls, problem: Problem, run: str | None = None) -> Outcome:
        """The outcome of a trial that one problem stopped."""
        where = f"{problem.where}: " if problem.where else ""
        return cls("failed", run=run, reason=f"{where}{problem.what}", hint=problem.hint)

    @property
    def scored(self) -> bool:
        """Whether its value counts in the table."""
        return self.status in SCORED and self.value is not None
