"""A lane's whole state as tensors and JSON, so that it can go on bit for bit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptv2_cli.train.checkpoint import Checkpoint, fit_into
from ptv2_cli.train.lane import Lane, Progress


def capture(lane: Lane, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON state of a lane: weights, optimizer, random states, position."""
    training = lane.training
    tensors = {f"learner.{name}": value for name, value in training.learner.own_state().items()}
    for index, values in training.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    tensors["random.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    own, state = lane.state()
    scaler = training.scaler.state_dict()
    return {**tensors, **own}, {
        "progress": asdict(training.progress),
        "scaler": scaler,
        **state,
    }


def restore(
    lane: Lane,
    checkpoint: Checkpoint,
    where: Path,
    device: torch.device,
    *,
    alone: bool = True,
) -> None:
    """Put a captured state back; that of the global generator only if nobody else draws from it.

    Raises:
        CheckpointError: its tensors do not fit this lane.
    """
    training = lane.training
    fit_into(training.learner, checkpoint.part("learner"), where)
    optimizer = training.optimizer.state_dict()
    optimizer["state"] = _by_index(checkpoint.part("optimizer"))
    training.optimizer.load_state_dict(optimizer)
    if alone:
        torch.set_rng_state(checkpoint.tensors["random.cpu"])
        if device.type == "cuda" and "random.cuda" in checkpoint.tensors:
            torch.cuda.set_rng_state(checkpoint.tensors["random.cuda"], device)
    training.progress = Progress(**checkpoint.state["progress"])
    training.scaler.load_state_dict(checkpoint.state["scaler"])
    lane.restore(checkpoint.tensors, checkpoint.state)


def _by_index(flat: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return state
