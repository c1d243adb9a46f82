"""The memory that lanes need besides the backbone, and how many lanes fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ptv2_cli.backbones.frozen_cache.activation_store import free_memory
from ptv2_cli.runs.session import Session
from ptv2_cli.runs.trainer import rows_of_a_pass
from ptv2_cli.training.loop import autocast

STATE = 16
"""Bytes per trained fp32 value: the value, its gradient and AdamW's two moments."""
MEAN = 4
"""Bytes per trained value of `train.average`."""
SLACK = 1.3
"""Factor on the values saved for backward: gradients and intermediate values come on top."""
SHARE = 0.9
"""Share of the free memory that lanes may take."""
MOST = 1024
"""Most lanes that are considered."""


@dataclass(frozen=True)
class Need:
    """The memory that one lane needs."""

    own: int
    """Bytes of its trained values, with gradients and moments."""
    batch: int
    """Bytes of its rows in a pass: the values saved for backward, and what comes on top."""
    rows: int
    """Rows of its batch."""

    def total(self, lanes: int, device: torch.device) -> int:
        """Bytes of `lanes` lanes; a pass on a CPU holds only some of their rows at once."""
        limit = rows_of_a_pass(device)
        at_once = lanes if limit is None else min(lanes, max(1, limit // self.rows))
        return lanes * self.own + at_once * self.batch

    def fits(self, free: int | None, device: torch.device) -> int:
        """How many lanes fit into `free` bytes, at least 1."""
        lanes = 1
        while lanes < MOST and (free is None or self.total(lanes + 1, device) <= SHARE * free):
            lanes += 1
        return lanes


def free_bytes(device: torch.device) -> int | None:
    """Free bytes of the device's memory; None where they are not known."""
    if device.type != "cuda":
        return free_memory()
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + cached)


def largest(needs: Iterable[Need]) -> Need:
    """The maximum of each part."""
    return reduce(
        lambda one, other: Need(
            max(one.own, other.own), max(one.batch, other.batch), max(one.rows, other.rows)
        ),
        needs,
    )


def need_of(session: Session) -> Need:
    """Measured with the longest rows: what one forward pass saves for backward."""
    lane, learner = session.new_lane(), session.learner
    batches = lane.batches
    batch = batches.collate(batches.largest).to(lane.device)
    frozen = {parameter.untyped_storage().data_ptr() for parameter in learner.backbone.parameters()}
    saved: dict[int, int] = {}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            saved[storage.data_ptr()] = storage.nbytes()
        # A node that holds its own output would be a reference cycle that is never freed.
        return tensor.detach()

    learner.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
        autocast(lane.precision, lane.device),
    ):
        output = learner(batch)
    del output  # until here the graph kept the storages alive, so no address was used twice
    trained = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    state = STATE if lane.average is None else STATE + MEAN
    return Need(state * trained, int(SLACK * sum(saved.values())), len(batch.input_ids))
