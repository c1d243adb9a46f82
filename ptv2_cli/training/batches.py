"""Which rows form the batches of an epoch: grouped by length, drawn by the seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from ptv2_cli.inputs.batch import Batch, collate
from ptv2_cli.inputs.feature_sizes import FeatureSizes, Indices
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
    step, while which rows meet comes from the seed. With a budget of tokens, how many rows each
    batch has comes from the lengths alone, with room for the blur: all seeds and epochs have as
    many batches, and none has more tokens.
    """

    features: Sequence[Feature]
    batch_size: int
    """Rows of a batch; without effect if `tokens` is given."""
    accumulate: int
    seed: int
    pad_id: int
    kind: Kind
    mixing: Literal["proportional", "even"] = "proportional"
    """With several tasks: all rows of each in an epoch, or as many batches of each."""
    class_weights: Sequence[float] | None = None
    """How much each class counts in the loss [C]; None: all alike."""
    tokens: int | None = None
    """Most padded tokens of a batch, those of the prompt included; one row may have more."""
    prompt: int = 0
    """Tokens of the prompt, which each input has besides its own."""

    @cached_property
    def sizes(self) -> FeatureSizes:
        """The sizes of the features."""
        return FeatureSizes.of(self.features)

    @cached_property
    def tasks(self) -> dict[int, Indices]:
        """Feature indices of each task; a batch is of one."""
        tasks = self.sizes.tasks
        return {int(task): np.flatnonzero(tasks == task) for task in np.unique(tasks)}

    @cached_property
    def batches_per_epoch(self) -> int:
        """Batches of one epoch."""
        if self.mixing == "even":
            return self._share * len(self.tasks)
        return sum(self._batches(task) for task in self.tasks)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-self.batches_per_epoch // self.accumulate)

    @property
    def largest(self) -> Indices:
        """The rows of the batch that needs most memory: the longest ones, of one task."""
        longest = int(self.sizes.lengths.argmax())
        rows = self.tasks[int(self.sizes.tasks[longest])]
        rows = rows[(-self.sizes.lengths[rows]).argsort(kind="stable")]
        if self.tokens is not None:
            return next(self.sizes.cut(rows, self.tokens, self.prompt))
        return rows[: self.batch_size]

    def epoch(self, epoch: int) -> list[Indices]:
        """Feature indices of every batch of an epoch, in order."""
        batches = [batch for task in self.tasks for batch in self._of_task(task, epoch)]
        order = torch.randperm(len(batches), generator=generator(0, f"buckets/{epoch}"))
        return [batches[index] for index in order.tolist()]

    def _of_task(self, task: int, epoch: int) -> list[Indices]:
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

    def _pass(self, task: int, number: int) -> list[Indices]:
        """Batches that hold every row of a task once, longest first."""
        rows = self.tasks[task]
        lengths = self.sizes.lengths[rows].astype(np.float64)
        purpose = f"order/{number}" if task == 0 else f"order/{number}/{task}"
        source = generator(self.seed, purpose)
        blur = torch.rand(len(lengths), generator=source, dtype=torch.float64).numpy() * 2 - 1
        order = rows[(-(lengths + blur * (lengths * JITTER + 1))).argsort(kind="stable")]
        if self.tokens is not None:
            return self._within_budget(task, order)
        return [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]

    def _within_budget(self, task: int, order: Indices) -> list[Indices]:
        """Batches of rows in about this order, each with as many inputs as its room allows.

        From the last batch to the first, each takes the shortest rows that are left; a row that is
        too long for it waits for the one before, which has room for longer ones.
        """
        counts, widths = self._rooms[task]
        lengths = self.sizes.lengths
        waiting, end = order[:0], len(order)
        batches: list[Indices] = []
        for count, width in zip(counts[::-1].tolist(), widths[::-1].tolist(), strict=True):
            fits = lengths[waiting] <= width
            taken, waiting = waiting[fits][-count:], _without_last(waiting, fits, count)
            parts = [taken]
            missing = count - len(taken)
            while missing:
                start = max(0, end - missing)
                piece, end = order[start:end], start
                fits = lengths[piece] <= width
                parts.insert(0, piece[fits])
                waiting = np.concatenate([piece[~fits], waiting])
                missing -= int(fits.sum())
            batches.append(np.concatenate(parts))
        return batches[::-1]

    @cached_property
    def _rooms(self) -> dict[int, tuple[Indices, Indices]]:
        """Of each task: the rows of every batch, and the tokens of the longest that it may have.

        The lengths count as if blurred upwards, so that rows of neighbouring batches can mix.
        """
        assert self.tokens is not None
        rooms = {}
        for task, rows in self.tasks.items():
            lengths, inputs = self.sizes.lengths[rows], self.sizes.inputs[rows]
            blurred = np.minimum((lengths * (1 + JITTER)).astype(np.int64) + 1, lengths.max())
            wider = FeatureSizes(
                blurred, self.sizes.tasks[rows], np.full_like(inputs, inputs.max())
            )
            order = (-lengths).argsort(kind="stable")
            cut = list(wider.cut(order, self.tokens, self.prompt))
            rooms[task] = (
                np.array([len(batch) for batch in cut], np.int64),
                np.array([blurred[batch[0]] for batch in cut], np.int64),
            )
        return rooms

    def _batches(self, task: int) -> int:
        if self.tokens is not None:
            return len(self._rooms[task][0])
        return -(-len(self.tasks[task]) // self.batch_size)

    @property
    def _share(self) -> int:
        """Batches of each task in an epoch of even mixing."""
        return -(-sum(self._batches(task) for task in self.tasks) // len(self.tasks))

    def groups(self, epoch: int) -> list[list[Indices]]:
        """The batches of each optimizer step of an epoch."""
        batches = self.epoch(epoch)
        return [
            batches[at : at + self.accumulate] for at in range(0, len(batches), self.accumulate)
        ]

    def collate(self, indices: Iterable[int]) -> Batch:
        """The tensors of one batch."""
        features = [self.features[int(index)] for index in indices]
        return collate(features, self.pad_id, self.kind, self.class_weights)


def _without_last(rows: Indices, chosen: npt.NDArray[np.bool_], count: int) -> Indices:
    """The rows without the last `count` of those chosen."""
    return np.delete(rows, np.flatnonzero(chosen)[-count:])
