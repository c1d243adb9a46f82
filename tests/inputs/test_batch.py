from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ptv2_cli.inputs.batch import collate
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import IGNORE


def test_rows_are_padded_to_the_longest() -> None:
    batch = collate([Feature(0, [5, 6, 7], label=1), Feature(1, [8], label=0)], 9, "sequence")
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 0]
    assert (batch.rows, batch.tokens, batch.targets) == (2, 4, 2)
    assert batch.token_type_ids is None
    assert batch.slots is None
    assert batch.mask_at is None
    assert batch.input_ids.dtype == torch.int64


def test_token_labels_and_their_number() -> None:
    first = Feature(0, [5, 6, 7], label=[IGNORE, 2, 3])
    batch = collate([first, Feature(1, [8, 8], label=[1, IGNORE])], 0, "token")
    assert batch.labels is not None
    assert batch.labels.tolist() == [[IGNORE, 2, 3], [1, IGNORE, IGNORE]]
    assert batch.targets == 3


def test_span_labels() -> None:
    batch = collate([Feature(0, [5, 6], label=(0, 1)), Feature(1, [8])], 0, "span")
    assert batch.labels is not None
    assert batch.labels.tolist() == [[0, 1], [IGNORE, IGNORE]]
    assert batch.targets == 1


def test_unlabelled_batches_have_no_labels() -> None:
    for kind in ("sequence", "choice", "token", "span"):
        batch = collate([Feature(0, [5])], 0, kind)
        assert batch.labels is None
        assert batch.targets == 0


def test_template_fields() -> None:
    features = [
        Feature(0, [5, 0, 6], token_type_ids=[0, 0, 1], slots=[-1, 0, -1], mask_at=2),
        Feature(1, [5, 0], token_type_ids=[0, 1], slots=[-1, 0], mask_at=0),
    ]
    batch = collate(features, 0, "sequence")
    assert batch.slots is not None
    assert batch.slots.tolist() == [[-1, 0, -1], [-1, 0, -1]]
    assert batch.mask_at is not None
    assert batch.mask_at.tolist() == [2, 0]
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.tolist() == [[0, 0, 1], [0, 1, 0]]
    # A slot is no padding, although its id is the padding's.
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_to_moves_every_tensor() -> None:
    batch = collate([Feature(0, [5], label=1, slots=[0])], 0, "sequence").to("meta")
    tensors: list[Any] = [batch.input_ids, batch.attention_mask, batch.labels, batch.slots]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert batch.targets == 1


def question(row: int, *inputs: Feature, label: int | None = None) -> Feature:
    longest = max(inputs, key=lambda item: len(item.input_ids))
    return replace(longest, row=row, label=label, choices=inputs)


def test_questions_with_different_numbers_of_choices() -> None:
    first = question(0, Feature(0, [5, 6]), Feature(0, [7]), label=1)
    second = question(1, Feature(1, [8]), Feature(1, [9, 9, 9]), Feature(1, [4]), label=0)
    batch = collate([first, second], 0, "choice")
    assert batch.input_ids.tolist() == [[5, 6, 0], [7, 0, 0], [8, 0, 0], [9, 9, 9], [4, 0, 0]]
    assert batch.choices is not None
    assert batch.choices.tolist() == [[0, 1, -1], [2, 3, 4]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 0]
    assert (batch.rows, batch.tokens, batch.targets) == (2, 8, 2)
    assert first.tokens + second.tokens == batch.tokens
    moved = batch.to("meta").choices
    assert moved is not None
    assert moved.device.type == "meta"


def test_every_choice_has_its_own_slots_mask_and_types() -> None:
    one = Feature(0, [5, 0, 6], token_type_ids=[0, 0, 1], slots=[-1, 0, -1], mask_at=2)
    other = Feature(0, [5, 0], token_type_ids=[0, 1], slots=[-1, 0], mask_at=1)
    batch = collate([question(0, one, other), question(1, other, one)], 0, "choice")
    assert batch.mask_at is not None
    assert batch.mask_at.tolist() == [2, 1, 1, 2]
    assert batch.slots is not None
    assert batch.slots.tolist() == [[-1, 0, -1], [-1, 0, -1], [-1, 0, -1], [-1, 0, -1]]
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.tolist() == [[0, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert batch.labels is None


def test_other_kinds_have_no_choices() -> None:
    assert collate([Feature(0, [5], label=1)], 0, "sequence").choices is None
