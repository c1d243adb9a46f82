"""What lanes take of memory beside the backbone, and how many of them fit."""

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
"""Bytes of a trained fp32 value: itself, its gradient and AdamW's two moments."""
SLACK = 1.3
"""Factor on what is kept for backward: gradients and intermediate values come on top."""
SHARE = 0.9
"""Of the memory that is free."""
MOST = 1024
"""Lanes beyond which nobody asks."""


@dataclass(frozen=True)
class Need:
    """What one lane takes."""

    own: int
    """Bytes of what trains, with gradients and moments."""
    batch: int
    """Bytes of its rows in a pass: what is kept for backward, and what comes on top."""
    rows: int
    """Rows of its batch."""

    def total(self, lanes: int, device: torch.device) -> int:
        """Bytes of so many lanes; a CPU's passes hold only some of their rows at once."""
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
    """Bytes of the device's memory that can still be taken; None where nobody says."""
    if device.type != "cuda":
        return free_memory()
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + kept)


def largest(needs: Iterable[Need]) -> Need:
    """The most of each part, whosesoever it is."""
    return reduce(
        lambda one, other: Need(
            max(one.own, other.own), max(one.batch, other.batch), max(one.rows, other.rows)
        ),
        needs,
    )


def need_of(session: Session) -> Need:
    """Measured on the longest rows: what one forward pass keeps for backward."""
    lane, learner = session.new_lane(), session.learner
    batches = lane.batches
    features = batches.features
    longest = sorted(range(len(features)), key=lambda at: -len(features[at].input_ids))
    task = features[longest[0]].task
    rows = [at for at in longest if features[at].task == task][: batches.batch_size]
    batch = batches.collate(rows).to(lane.device)
    frozen = {parameter.untyped_storage().data_ptr() for parameter in learner.backbone.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage.nbytes()
        # Its own output in a node's keeping would be a circle that nobody frees.
        return tensor.detach()

    learner.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        autocast(lane.precision, lane.device),
    ):
        output = learner(batch)
    del output  # until here the graph kept every storage apart
    trained = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    return Need(STATE * trained, int(SLACK * sum(kept.values())), len(batch.input_ids))
