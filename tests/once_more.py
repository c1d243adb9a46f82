"""A run once more: interrupted and continued, and read again from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from left_behind import assert_bit_equal, read_checkpoint
from torch import Tensor

from ptv2_cli.runs import trainer
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.rescore import open_for_rescoring
from ptv2_cli.training.events import StepDone

LAST = 3
"""The step after which a run is interrupted."""


def trained_twice(config: Path, folder: Path) -> tuple[RunDirectory, dict[str, Any]]:
    """Train a run, and train it with an interruption: both leave the same.

    Returns:
        The directory of the first and its metrics.
    """
    session, metrics = tiny.trained(config, folder / "whole")
    whole = session.resolved_run.directory

    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == LAST:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "SAVE_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            tiny.trained(config, folder / "parts", listen=stop)
    again, _ = tiny.trained(config, folder / "parts", resume=True)
    assert_bit_equal(whole.path, again.resolved_run.directory.path)
    return whole, metrics


def method_tensors(run: RunDirectory) -> dict[str, Tensor]:
    """What the method of a run has learnt, by the names in its best checkpoint."""
    tensors = read_checkpoint(run.checkpoints, "best").tensors
    return {name: value for name, value in tensors.items() if name.startswith("learner.method.")}


def assert_read_again(run: RunDirectory) -> None:
    """From its files it gives the same scores and the same probabilities."""
    opened = open_for_rescoring(run, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in opened.evaluate("validation")} == {"equal"}
    lines = Run(run, offline=True).predictions()
    found = Run(run, offline=True).predict([line["row"] for line in lines])
    for line, new in zip(lines, found, strict=True):
        assert new["prediction"]["probabilities"] == pytest.approx(
            line["prediction"]["probabilities"], abs=1e-5
        )
