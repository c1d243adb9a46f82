"""Which rows form the batches of an epoch: grouped by length, drawn by the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ptv2_cli.seeding import generator
from ptv2_cli.tasks.base import Feature, Kind
from ptv2_cli.tasks.collate import Batch, collate

JITTER = 0.15
"""Share of its length by which a row may move among its neighbours."""


@dataclass(frozen=True)
class BatchPlan:
    """All batches of all epochs, computed from their place so that a run can resume anywhere.

    Rows are sorted by a length that the seed blurs, cut into batches, and the batches shuffled
    by the epoch alone: trials of different seeds meet batches of nearly equal length at every
    step, while which rows meet comes from the seed.
    """

    features: Sequence[Feature]
    batch_size: int
    accumulate: int
    seed: int
    pad_id: int
    kind: Kind

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        batches = -(-len(self.features) // self.batch_size)
        return -(-batches // self.accumulate)

    def epoch(self, epoch: int) -> list[list[int]]:
        """Feature indices of every batch of an epoch, in order."""
        lengths = torch.tensor([len(item.input_ids) for item in self.features], dtype=torch.float64)
        source = generator(self.seed, f"order/{epoch}")
        blur = torch.rand(len(lengths), generator=source, dtype=torch.float64) * 2 - 1
        order = (lengths + blur * (lengths * JITTER + 1)).argsort(descending=True).tolist()
        batches = [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        places = torch.randperm(len(batches), generator=generator(0, f"buckets/{epoch}"))
        return [batches[place] for place in places.tolist()]

    def groups(self, epoch: int) -> list[list[list[int]]]:
        """The batches of each optimizer step of an epoch."""
        batches = self.epoch(epoch)
        return [
            batches[at : at + self.accumulate] for at in range(0, len(batches), self.accumulate)
        ]

    def collate(self, indices: Sequence[int]) -> Batch:
        """The tensors of one batch."""
        return collate([self.features[index] for index in indices], self.pad_id, self.kind)
