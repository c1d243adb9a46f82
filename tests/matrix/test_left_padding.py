"""Decoder-only models read the last real token, whichever side is padded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from cells import learner_of, predicted

from ptv2_cli.backbones.families import FAMILIES

LENGTHS = [9, 5, 2]


def left(batch):
    """The same texts with their padding before them."""

    def moved(tensor):
        rows = zip(tensor, LENGTHS, strict=True)
        return torch.stack([row.roll(len(row) - length) for row, length in rows])

    return replace(
        batch, input_ids=moved(batch.input_ids), attention_mask=moved(batch.attention_mask)
    )


@pytest.mark.parametrize("family", [name for name, known in FAMILIES.items() if known.causal])
@pytest.mark.parametrize("method", ["ptuning_v2", "head_only"])
def test_either_side_gives_the_same(family, method, folder_of) -> None:
    backbone = tiny.load(folder_of(family))
    assert backbone.shape.family.pooling == "last"
    learner = learner_of(backbone, "sequence", method)
    batch = tiny.text_batch(LENGTHS)
    expected, found = predicted(learner, batch), predicted(learner, left(batch))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    # The texts differ, so a head that read another place would have shown.
    rows = expected["probabilities"]
    assert (rows[0] - rows[1]).abs().max() > 1e-3

    prompts = learner.method()
    with torch.no_grad():
        right, moved = backbone(batch, prompts), backbone(left(batch), prompts)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(moved[row, -length:], right[row, :length], atol=1e-4, rtol=1e-4)
