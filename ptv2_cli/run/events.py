"""What a run tells its listener, beside the loop's own events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ptv2_cli.run.directory import RunDirectory
from ptv2_cli.train.events import Event


@dataclass(frozen=True)
class Started:
    """Training begins, or goes on."""

    directory: RunDirectory
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
class Warned:
    """Something the user should know."""

    text: str


RunEvent = Event | Started | Ticked | Warned
Listener = Callable[[RunEvent], None]
