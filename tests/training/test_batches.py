"""Which rows form batches, and how they are padded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ptv2_cli.inputs.features import Feature
from ptv2_cli.training.batches import BatchPlan

LENGTHS = random.Random(0).choices(range(5, 60), k=203)


def plan(seed: int, size: int = 8, accumulate: int = 1) -> BatchPlan:
    features = [Feature(row=i, input_ids=[9] * n, label=0) for i, n in enumerate(LENGTHS)]
    return BatchPlan(features, size, accumulate, seed, pad_id=0, kind="sequence")


def rows_of(batches: Any) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_every_row_once_per_epoch(epoch) -> None:
    batches = plan(11).epoch(epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(203))
    assert sorted(map(len, batches)) == [3, *[8] * 25]


def test_same_seed_same_batches_and_another_epoch_other_batches() -> None:
    assert rows_of(plan(11).epoch(3)) == rows_of(plan(11).epoch(3))
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
    assert rows_of([batch for group in groups for batch in group]) == rows_of(which.epoch(1))


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


LONG = [300, 250, 249, 200, *([90] * 13), *([60] * 40), *range(3, 60), 3, 3, 3]


def budgeted(
    tokens: int, seed: int = 11, prompt: int = 0, lengths: list[int] | None = None, **options: Any
) -> BatchPlan:
    chosen = LONG if lengths is None else lengths
    features = [Feature(row, [5] * length, label=0) for row, length in enumerate(chosen)]
    return BatchPlan(
        features, 32, 1, seed, pad_id=0, kind="sequence", tokens=tokens, prompt=prompt, **options
    )


def padded(which: BatchPlan, batch: Any) -> int:
    rows = [which.features[int(row)] for row in batch]
    inputs = [item for row in rows for item in row.inputs]
    return len(inputs) * (which.prompt + max(len(item.input_ids) for item in inputs))


@pytest.mark.parametrize("prompt", [0, 20])
@pytest.mark.parametrize("tokens", [320, 512, 4096, 10**9])
def test_no_batch_has_more_tokens_than_the_budget(tokens: int, prompt: int) -> None:
    for seed in (11, 12, 13):
        which = budgeted(tokens, seed, prompt)
        for epoch in range(4):
            batches = which.epoch(epoch)
            assert len(batches) == which.steps_per_epoch
            assert which.steps_per_epoch == budgeted(tokens, 99, prompt).steps_per_epoch
            assert sorted(row for batch in batches for row in batch) == list(range(len(LONG)))
            assert max(padded(which, batch) for batch in batches) <= tokens


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    which = budgeted(100)
    alone = {batch.tolist()[0] for batch in which.epoch(0) if padded(which, batch) > 100}
    assert alone == {0, 1, 2, 3}
    assert all(len(batch) == 1 for batch in which.epoch(0) if padded(which, batch) > 100)
    assert which.largest.tolist() == [0]


def test_a_budget_fills_most_of_every_batch() -> None:
    which = budgeted(4096, lengths=[10 + row % 200 for row in range(2000)])
    used = [padded(which, batch) / 4096 for batch in which.epoch(1)]
    assert sorted(used)[len(used) // 4] > 0.8
    assert padded(which, which.largest) > 0.8 * 4096


def test_seeds_meet_like_lengths_at_every_step_of_a_budget_too() -> None:
    lengths = [10 + row * 7 % 200 for row in range(1000)]
    one, other = (budgeted(2048, seed, lengths=lengths).epoch(3) for seed in (11, 12))
    longest = [[max(lengths[row] for row in batch) for batch in which] for which in (one, other)]
    assert [len(batch) for batch in one] == [len(batch) for batch in other]
    apart = [abs(a - b) / max(a, b) for a, b in zip(*longest, strict=True)]
    assert max(apart) < 0.25
    together = [set(a.tolist()) & set(b.tolist()) for a, b in zip(one, other, strict=True)]
    assert sum(map(len, together)) < 600
    assert rows_of(one) == rows_of(budgeted(2048, 11, lengths=lengths).epoch(3))
    assert rows_of(one) != rows_of(budgeted(2048, 11, lengths=lengths).epoch(4))


def test_questions_count_all_their_choices() -> None:
    choice = Feature(0, [5] * 10)
    features = [
        Feature(row, [5] * 10, label=0, choices=(choice,) * (2 + row % 3)) for row in range(30)
    ]
    which = BatchPlan(features, 32, 1, 11, pad_id=0, kind="choice", tokens=200)
    assert max(padded(which, batch) for batch in which.epoch(0)) <= 200
    assert len(which.epoch(0)) == which.steps_per_epoch


@pytest.mark.parametrize("mixing", ["proportional", "even"])
def test_a_budget_keeps_tasks_apart(mixing: Any) -> None:
    features = [
        Feature(row, [5] * (3 + row % 40), label=0, task=int(row > 150)) for row in range(200)
    ]
    which = BatchPlan(features, 32, 2, 11, 0, "sequence", mixing, tokens=256)
    for epoch in range(3):
        batches = which.epoch(epoch)
        assert len(batches) == which.batches_per_epoch
        assert all(len({features[row].task for row in batch}) == 1 for batch in batches)
        assert max(padded(which, batch) for batch in batches) <= 256


class Arrays(Sequence[Feature]):
    """Features that lie in arrays: only those of a batch are looked at."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths)
        self.seen = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        self.seen += 1
        return Feature(index, [5] * int(self.lengths[index]), label=0)


@pytest.mark.parametrize("tokens", [None, 512])
def test_batches_are_formed_without_looking_at_features(tokens: int | None) -> None:
    rows = Arrays(LONG)
    which = BatchPlan(rows, 8, 1, 11, pad_id=0, kind="sequence", tokens=tokens)
    listed = replace(which, features=list(rows))
    rows.seen = 0
    batches = which.epoch(1)
    assert rows_of(batches) == rows_of(listed.epoch(1))
    assert which.steps_per_epoch == len(batches)
    assert len(which.largest) > 0
    assert rows.seen == 0
    which.collate(batches[0])
    assert rows.seen == len(batches[0])
