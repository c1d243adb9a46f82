"""Batches of several owners as one: what is padded with what, and slots by owner."""

from __future__ import annotations

from dataclasses import replace

import tiny
import torch

from ptv2_cli.inputs.batch import Batch, join_batches, with_prompt_slots
from ptv2_cli.inputs.features import Feature


def batch(*rows: list[int], types: bool = False, first: int = 0) -> Batch:
    """Rows of equal length; features are numbered from `first`."""
    ids = torch.tensor(rows)
    features = [Feature(row=first + at, input_ids=row, label=0) for at, row in enumerate(rows)]
    return Batch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        targets=len(rows),
        token_type_ids=torch.ones_like(ids) if types else None,
        features=tuple(features),
        pad_id=4,
    )


def test_all_rows_one_after_another() -> None:
    found = join_batches([batch([5, 6], [7, 8]), batch([9, 10, 11, 12], first=2)])
    assert found.input_ids.tolist() == [[5, 6, 4, 4], [7, 8, 4, 4], [9, 10, 11, 12]]
    assert found.attention_mask.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert found.targets == 3
    assert found.token_type_ids is None
    assert found.slots is None
    assert found.features is not None
    assert [feature.row for feature in found.features] == [0, 1, 2]


def test_one_is_taken_as_it_is() -> None:
    only = batch([5, 6])
    assert join_batches([only]) is only


def test_segments() -> None:
    found = join_batches([batch([5, 6], types=True), batch([7, 8, 9], types=True)])
    assert found.token_type_ids is not None
    assert found.token_type_ids.tolist() == [[1, 1, 0], [1, 1, 1]]


def test_features_that_one_does_not_know_are_known_of_none() -> None:
    unknown = replace(batch([5, 6]), features=None)
    assert join_batches([batch([5, 6]), unknown]).features is None


def test_slots_count_all_owners_vectors() -> None:
    first = replace(batch([5, 6, 7]), slots=torch.tensor([[-1, 0, 1]]))
    third = replace(batch([8, 9]), slots=torch.tensor([[0, -1]]))
    found = join_batches([first, batch([5]), third], [2, 0, 1])
    assert found.slots is not None
    assert found.slots.tolist() == [[-1, 0, 1], [-1, -1, -1], [2, -1, -1]]


def test_room_for_vectors_before_a_column() -> None:
    wide = with_prompt_slots(batch([5, 6], [7, 8], types=True), column=1, length=3)
    assert wide.input_ids.tolist() == [[5, 4, 4, 4, 6], [7, 4, 4, 4, 8]]
    assert wide.attention_mask.tolist() == [[1] * 5] * 2
    assert wide.token_type_ids is not None
    assert wide.token_type_ids.tolist() == [[1, 0, 0, 0, 1]] * 2
    assert wide.slots is not None
    assert wide.slots.tolist() == [[-1, 0, 1, 2, -1]] * 2
    before = with_prompt_slots(tiny.text_batch([3, 2]), column=0, length=1)
    assert before.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
