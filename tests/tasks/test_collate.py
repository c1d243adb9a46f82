from __future__ import annotations

from typing import Any

import torch

from ptv2_cli.tasks.base import IGNORE, Feature
from ptv2_cli.tasks.collate import collate


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
    for kind in ("sequence", "token", "span"):
        batch = collate([Feature(0, [5])], 0, kind)  # type: ignore[arg-type]
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
