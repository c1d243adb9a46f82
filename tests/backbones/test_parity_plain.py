"""Every family against a plain attention: hidden states and the gradients of every prompt."""

from __future__ import annotations

import plain
import pytest
import tiny
import torch

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.sites import Prompts

LENGTH = 5
LENGTHS = {"unpadded": [7, 7], "padded": [9, 4, 2]}
CLOSE = {"atol": 2e-5, "rtol": 2e-5}


def gradients(hidden, batch, values):
    """Of a random projection of the states that a head reads, for every key and value."""
    draws = torch.Generator().manual_seed(4)
    projection = torch.randn(hidden.shape, generator=draws)
    if hidden.shape[1] == batch.attention_mask.shape[1]:
        projection = projection * batch.attention_mask[..., None]
    leaves = [leaf for pair in values for leaf in pair]
    return torch.autograd.grad((hidden * projection).sum(), leaves)


def assert_equal(family, model, backbone, lengths, offset) -> None:
    batch = tiny.text_batch(lengths)
    values = plain.random_values(backbone, LENGTH)
    prompts = Prompts(keys_values=dict(enumerate(values)), offset=offset)
    found = backbone(batch, prompts)
    expected = plain.hidden_states(model, family, batch, values, offset)
    seen = batch.attention_mask.bool() if found.shape[1] > 1 else slice(None)
    torch.testing.assert_close(found[seen], expected[seen], **CLOSE)
    pairs = zip(gradients(found, batch, values), gradients(expected, batch, values), strict=True)
    for ours, theirs in pairs:
        scale = theirs.abs().max()
        assert scale > 0
        torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("offset", [0, LENGTH], ids=["keep", "shift"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_states_and_gradients_equal_plain_attention(
    family, lengths, offset, folder_of, backbone_of
) -> None:
    model = plain.plain_model(folder_of(family), family, offset)
    assert_equal(family, model, backbone_of(family), lengths, offset)


@pytest.mark.parametrize("family", [name for name, f in FAMILIES.items() if f.two_stacks])
def test_the_encoder_alone_equals_plain_attention(family, folder_of) -> None:
    backbone = tiny.load(folder_of(family)).eval()
    backbone.drop_decoder()
    model = plain.plain_model(folder_of(family), family, LENGTH).get_encoder()
    assert_equal(family, model, backbone, [9, 4, 2], LENGTH)


@pytest.mark.parametrize("family", FAMILIES)
def test_shift_moves_text_where_positions_are_counted(family, backbone_of) -> None:
    backbone = backbone_of(family)
    batch = tiny.text_batch([6, 4])
    kept = backbone(batch, tiny.random_prompts(backbone, LENGTH))
    shifted = backbone(batch, tiny.random_prompts(backbone, LENGTH, offset=LENGTH))
    counted = backbone.shape.positions is not None or family == "bloom"  # its bias counts places
    assert ((kept - shifted).abs().max() > 1e-2) == counted


@pytest.mark.parametrize(
    ("stack", "moved"), [("encoder", True), ("decoder", True), ("cross", False)]
)
def test_bart_shifts_the_stack_that_has_the_prompt(stack, moved, backbone_of) -> None:
    backbone = backbone_of("bart")
    batch = tiny.text_batch([6, 4])
    values = tiny.random_prompts(backbone, LENGTH).keys_values
    chosen = {at: values[at] for at, site in enumerate(backbone.sites) if site.stack == stack}
    kept = backbone(batch, Prompts(keys_values=chosen))
    shifted = backbone(batch, Prompts(keys_values=chosen, offset=LENGTH))
    assert ((kept - shifted).abs().max() > 1e-3) == moved


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_with_prompts_of_their_own_some_shorter(family, backbone_of) -> None:
    """Five, three and no visible positions: each row as if it were alone."""
    backbone = backbone_of(family)
    batch = tiny.text_batch([7, 4, 6])
    sizes = (5, 3, 0)
    seen = torch.arange(LENGTH)[None] < torch.tensor(sizes)[:, None]
    prompts = tiny.random_prompts(backbone, LENGTH, rows=3, mask=seen)
    with torch.no_grad():
        found = backbone(batch, prompts)
        for row, size in enumerate(sizes):
            alone, own = tiny.row_alone(batch, prompts, row, size)
            expected = backbone(alone, Prompts(keys_values=own if size else None))[0]
            torch.testing.assert_close(found[row, : len(expected)], expected, **CLOSE)
