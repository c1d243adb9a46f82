"""Train one experiment."""

from __future__ import annotations

from typing import Any

from ptv2_cli.run.events import Listener
from ptv2_cli.run.session import Session
from ptv2_cli.run.together import Together
from ptv2_cli.run.training import TrainingRun


def train(session: Session, *, resume: bool, listen: Listener) -> dict[str, Any]:
    """Train, or go on training, and write the run directory; returns metrics.json's content.

    Raises:
        Interrupted: by a signal, after saving.
        CheckpointError: the checkpoint to go on from is damaged.
    """
    run = TrainingRun(session, listen)
    with Together(session.device) as together:
        together.join(run, resume=resume)
        ((_, metrics),) = together.carry_out(lambda: None)
    return metrics
