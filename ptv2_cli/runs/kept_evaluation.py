"""The best evaluation so far, kept beside the checkpoint `best` so that it is not repeated.

It is a checkpoint of its own, `scored`: saved together with `best`, checked when it is read, and
removed when the run has ended and its predictions are in their files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.errors import CheckpointError
from ptv2_cli.runs.evaluation import Evaluation
from ptv2_cli.runs.results import plain
from ptv2_cli.scoring.scores import Scores
from ptv2_cli.training.checkpoint import Save, load_checkpoint, remove_checkpoint


def keep_evaluation(
    save: Save, folder: Path, fingerprint: str, evaluation: Evaluation, step: int
) -> None:
    """Add an evaluation of the selection split to what is saved; `step` is that of its weights."""
    text = json.dumps([plain(one) for one in evaluation.predictions], default=str)
    state = {"step": step, "scores": _with_plain_numbers(asdict(evaluation.scores))}
    tensors = {"predictions": torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}
    save.add(folder, "scored", fingerprint, tensors, state)


def kept_evaluation(
    folder: Path, fingerprint: str, best: Mapping[str, Any], rows: int
) -> Evaluation | None:
    """The kept evaluation; None if there is none, or if it is damaged or of other weights.

    Args:
        folder: the run's checkpoints.
        fingerprint: the run's.
        best: the chosen evaluation, as the run's record has it.
        rows: rows of the selection split.
    """
    try:
        kept = load_checkpoint(folder, "scored", fingerprint)
    except CheckpointError:
        return None
    if kept.state.get("step") != best["step"]:
        return None
    predictions = json.loads(kept.tensors["predictions"].numpy().tobytes())
    if len(predictions) != rows:
        return None
    return Evaluation(predictions, Scores(**kept.state["scores"]), dict(best["state"]), 0.0)


def drop_evaluation(folder: Path) -> None:
    """Remove the kept evaluation, if there is one."""
    remove_checkpoint(folder, "scored")


def _with_plain_numbers(scores: dict[str, Any]) -> Any:
    """The scores as JSON has them; unlike `plain` it keeps NaN."""
    return json.loads(json.dumps(scores, default=lambda value: value.item()))
