"""Which rows form batches, and how they are padded."""

from __future__ import annotations

import random

import pytest

from ptv2_cli.inputs.features import Feature
from ptv2_cli.training.batches import BatchPlan

LENGTHS = random.Random(0).choices(range(5, 60), k=203)


def plan(seed: int, size: int = 8, accumulate: int = 1) -> BatchPlan:
    features = [Feature(row=i, input_ids=[9] * n, label=0) for i, n in enumerate(LENGTHS)]
    return BatchPlan(features, size, accumulate, seed, pad_id=0, kind="sequence")


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_every_row_once_per_epoch(epoch) -> None:
    batches = plan(11).epoch(epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(203))
    assert sorted(map(len, batches)) == [3, *[8] * 25]


def test_same_seed_same_batches_and_another_epoch_other_batches() -> None:
    assert plan(11).epoch(3) == plan(11).epoch(3)
    members = [{frozenset(batch) for batch in plan(11).epoch(epoch)} for epoch in (3, 4)]
    assert len(members[0] & members[1]) <= 2


def test_seeds_meet_like_lengths_at_every_step_with_other_rows() -> None:
    first, second = plan(11), plan(12)
    widths = [
        [max(LENGTHS[row] for row in batch) for batch in which.epoch(2)]
        for which in (first, second)
    ]
    assert all(abs(a - b) <= 0.35 * max(a, b) + 2 for a, b in zip(*widths, strict=True))
    same = [set(a) == set(b) for a, b in zip(first.epoch(2), second.epoch(2), strict=True)]
    assert sum(same) <= 1
    # The order of lengths is no sorting: the epochs differ in it.
    assert [len(b) for b in first.epoch(2)] == [len(b) for b in second.epoch(2)]
    assert widths[0] != sorted(widths[0], reverse=True)


def test_lengths_within_a_batch_are_near() -> None:
    tokens = sum(LENGTHS)
    padded = sum(len(b) * max(LENGTHS[row] for row in b) for b in plan(11).epoch(0))
    assert padded < 1.25 * tokens


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 26), (2, 13), (4, 7), (100, 1)])
def test_groups_are_the_batches_of_a_step(accumulate, steps) -> None:
    which = plan(11, accumulate=accumulate)
    groups = which.groups(1)
    assert len(groups) == which.steps_per_epoch == steps
    assert [batch for group in groups for batch in group] == which.epoch(1)


def test_padding_only_to_the_longest_row() -> None:
    which = plan(11)
    for rows in which.epoch(0):
        batch = which.collate(rows)
        assert batch.input_ids.shape == (len(rows), max(LENGTHS[row] for row in rows))
        assert batch.tokens == sum(LENGTHS[row] for row in rows)


def mixed(counts: list[int], mixing: str, size: int = 4, seed: int = 11) -> BatchPlan:
    features = [
        Feature(row=row, input_ids=[9] * LENGTHS[row], label=0, task=task)
        for task, count in enumerate(counts)
        for row in range(count)
    ]
    return BatchPlan(features, size, 1, seed, pad_id=0, kind="sequence", mixing=mixing)


def tasks_of(which: BatchPlan, epoch: int) -> list[int]:
    batches = which.epoch(epoch)
    assert all(len({which.features[row].task for row in batch}) == 1 for batch in batches)
    return [which.features[batch[0]].task for batch in batches]


def test_tasks_in_proportion_give_every_row_once() -> None:
    which = mixed([30, 10], "proportional")
    assert sorted(row for batch in which.epoch(2) for row in batch) == list(range(40))
    assert which.steps_per_epoch == len(which.epoch(2)) == 8 + 3
    order = tasks_of(which, 2)
    assert order not in (sorted(order), sorted(order, reverse=True))


def test_tasks_mixed_evenly_give_as_many_batches_each() -> None:
    which = mixed([30, 10], "even")
    for epoch in range(3):
        order = tasks_of(which, epoch)
        assert order.count(0) == order.count(1) == 6
        assert len(order) == which.steps_per_epoch
    # Over passes of its own every row of a task comes equally often.
    small = [
        row for epoch in range(3) for batch in which.epoch(epoch) for row in batch if row >= 30
    ]
    large = [row for epoch in range(4) for batch in which.epoch(epoch) for row in batch if row < 30]
    assert {small.count(row) for row in range(30, 40)} == {6}
    assert {large.count(row) for row in range(30)} == {3}
