"""Which rows form the batches of an epoch: grouped by length, drawn by the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from ptv2_cli.inputs.batch import Batch, collate
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import Kind
from ptv2_cli.rng import generator

JITTER = 0.15
"""Share of its length by which a row may move among its neighbours."""


@dataclass(frozen=True)
class BatchPlan:
    """The batches of every epoch, computed from its number so that a run can resume anywhere.

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
    mixing: Literal["proportional", "even"] = "proportional"
    """With several tasks: all rows of each in an epoch, or as many batches of each."""
    class_weights: Sequence[float] | None = None
    """How much each class counts in the loss [C]; None: all alike."""

    @cached_property
    def tasks(self) -> dict[int, list[int]]:
        """Feature indices of each task; a batch is of one."""
        by_task: dict[int, list[int]] = {}
        for index, item in enumerate(self.features):
            by_task.setdefault(item.task, []).append(index)
        return dict(sorted(by_task.items()))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        batches = sum(self._batches(task) for task in self.tasks)
        if self.mixing == "even":
            batches = self._share * len(self.tasks)
        return -(-batches // self.accumulate)

    def epoch(self, epoch: int) -> list[list[int]]:
        """Feature indices of every batch of an epoch, in order."""
        batches = [batch for task in self.tasks for batch in self._of_task(task, epoch)]
        order = torch.randperm(len(batches), generator=generator(0, f"buckets/{epoch}"))
        return [batches[index] for index in order.tolist()]

    def _of_task(self, task: int, epoch: int) -> list[list[int]]:
        """The task's batches in an epoch of the run."""
        if self.mixing == "proportional":
            return self._pass(task, epoch)
        # Batches come one after another from the task's passes over its rows.
        per_pass, first = self._batches(task), epoch * self._share
        wanted = [divmod(at, per_pass) for at in range(first, first + self._share)]
        passes = {number: self._pass(task, number) for number, _ in wanted}
        shuffled = {
            number: torch.randperm(
                per_pass, generator=generator(self.seed, f"pass/{task}/{number}")
            )
            for number in passes
        }
        return [passes[number][int(shuffled[number][at])] for number, at in wanted]

    def _pass(self, task: int, number: int) -> list[list[int]]:
        """Batches that hold every row of a task once, longest first."""
        rows = self.tasks[task]
        lengths = torch.tensor(
            [len(self.features[row].input_ids) for row in rows], dtype=torch.float64
        )
        purpose = f"order/{number}" if task == 0 else f"order/{number}/{task}"
        source = generator(self.seed, purpose)
        blur = torch.rand(len(lengths), generator=source, dtype=torch.float64) * 2 - 1
        order = (lengths + blur * (lengths * JITTER + 1)).argsort(descending=True).tolist()
        return [
            [rows[place] for place in order[at : at + self.batch_size]]
            for at in range(0, len(order), self.batch_size)
        ]

    def _batches(self, task: int) -> int:
        return -(-len(self.tasks[task]) // self.batch_size)

    @property
    def _share(self) -> int:
        """Batches of each task in an epoch of even mixing."""
        return -(-sum(self._batches(task) for task in self.tasks) // len(self.tasks))

    def groups(self, epoch: int) -> list[list[list[int]]]:
        """The batches of each optimizer step of an epoch."""
        batches = self.epoch(epoch)
        return [
            batches[at : at + self.accumulate] for at in range(0, len(batches), self.accumulate)
        ]

    def collate(self, indices: Sequence[int]) -> Batch:
        """The tensors of one batch."""
        features = [self.features[index] for index in indices]
        return collate(features, self.pad_id, self.kind, self.class_weights)
