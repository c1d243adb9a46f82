"""Prompts of several owners in one pass: each row gets its own, and each owner its gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch

from ptv2_cli.backbones.injection import combined
from ptv2_cli.backbones.sites import InputVectors, Prompts
from ptv2_cli.inputs.batch import Batch, join_batches, with_prompt_slots

BackboneOf = Callable[[str], Any]
LENGTHS = ([9, 4], [6], [12, 3, 7])


def parts(batches: list[Batch], hidden: torch.Tensor) -> list[torch.Tensor]:
    """Each batch's real tokens out of the hidden states of all rows."""
    found = torch.split(hidden, [len(batch.input_ids) for batch in batches])
    return [
        own[:, : batch.input_ids.shape[1]] * batch.attention_mask[..., None]
        for own, batch in zip(found, batches, strict=True)
    ]


@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "deberta-v2"])
def test_rows_are_as_with_their_own_prompts_alone(family: str, backbone_of: BackboneOf) -> None:
    backbone = backbone_of(family)
    pad = {"roberta": 1}.get(family, 0)
    texts = [tiny.text_batch(lengths, seed=at) for at, lengths in enumerate(LENGTHS)]
    batches = [replace(batch, pad_id=pad) for batch in texts]
    prompts = [
        tiny.random_prompts(backbone, 3, seed=1, offset=3),
        tiny.random_prompts(backbone, 5, seed=2),  # positions kept
        Prompts(),
    ]
    some = tiny.random_prompts(backbone, 2, seed=3, offset=2).keys_values
    assert some is not None
    prompts[2] = Prompts(keys_values={1: some[1]}, offset=2)
    rows = [2, 1, 3]
    with torch.no_grad():
        alone = [backbone(*pair) for pair in zip(batches, prompts, strict=True)]
        trainer = backbone(join_batches(batches), combined(prompts, rows))
    for own, found, batch in zip(alone, parts(batches, trainer), batches, strict=True):
        kept = own * batch.attention_mask[..., None]
        torch.testing.assert_close(found, kept, atol=2e-5, rtol=1e-4)
    # The prompts of another row give another result.
    with torch.no_grad():
        other = backbone(
            join_batches(batches), combined([prompts[1], prompts[0], prompts[2]], rows)
        )
    assert (other - trainer).abs().max() > 0.01


@pytest.mark.parametrize("rows", [[2, 2, 2], [1, 4, 2]])
def test_every_owner_gets_its_own_gradient(rows: list[int], backbone_of: BackboneOf) -> None:
    backbone = backbone_of("bert")
    made = [tiny.random_prompts(backbone, length, seed=length) for length in (4, 1, 4)]
    leaves = [[part.requires_grad_() for pair in one.keys_values.values() for part in pair]
              for one in made]  # fmt: skip
    batches = [tiny.text_batch([5 + at] * count, seed=at) for at, count in enumerate(rows)]
    weight = torch.randn(backbone.shape.hidden_size, generator=torch.Generator().manual_seed(0))

    def gradients(hidden: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        sum((own @ weight).sin().sum() for own in hidden).backward()
        found = [[leaf.grad.clone() for leaf in own] for own in leaves]
        for own in leaves:
            for leaf in own:
                leaf.grad = None
        return found

    alone = gradients([backbone(*pair) for pair in zip(batches, made, strict=True)])
    hidden = backbone(join_batches(batches), combined(made, rows))
    trainer = gradients(parts(batches, hidden))
    for own, found in zip(alone, trainer, strict=True):
        for one, other in zip(own, found, strict=True):
            torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-3)
            assert one.abs().max() > 0.01


def test_vectors_among_the_inputs(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("bert")
    source = torch.Generator().manual_seed(0)
    vectors = [torch.randn(length, 32, generator=source) for length in (3, 2)]
    batches = [tiny.text_batch(lengths, seed=at) for at, lengths in enumerate(LENGTHS)]
    template = torch.full_like(batches[1].input_ids, -1)
    template[0, 2:4] = torch.tensor([1, 0])
    batches[1] = replace(batches[1], slots=template)
    prompts = [
        Prompts(inputs=InputVectors(vectors[0], 1)),
        Prompts(inputs=InputVectors(vectors[1], None)),
        tiny.random_prompts(backbone, 4, offset=4),
    ]
    wide = [with_prompt_slots(batches[0], 1, 3), *batches[1:]]
    with torch.no_grad():
        alone = [backbone(*pair) for pair in zip(batches, prompts, strict=True)]
        hidden = backbone(join_batches(wide, [3, 2, 0]), combined(prompts, [2, 1, 3]))
    first, *others = parts(wide, hidden)
    found = [torch.cat([first[:, :1], first[:, 4:]], dim=1), *others]
    for own, part, batch in zip(alone, found, batches, strict=True):
        kept = own * batch.attention_mask[..., None]
        torch.testing.assert_close(part, kept, atol=2e-5, rtol=1e-4)


def test_one_owner_is_taken_as_it_is(backbone_of: BackboneOf) -> None:
    prompts = tiny.random_prompts(backbone_of("bert"), 3)
    assert combined([prompts], [7]) is prompts


def test_what_is_alike_needs_no_mask_and_no_offsets(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("bert")
    same = [tiny.random_prompts(backbone, 3, seed=seed, offset=3) for seed in (1, 2)]
    found = combined(same, [2, 2])
    assert found.mask == {}
    assert found.offset == 3
    assert found.rows == (2, 2)
    assert found.inputs is None
    shorter = tiny.random_prompts(backbone, 1, offset=1)
    other = combined([same[0], shorter], [1, 2])
    assert torch.equal(other.offset, torch.tensor([3, 1, 1]))
    (mask,) = {id(mask): mask for mask in other.mask.values()}.values()
    assert mask.tolist() == [[True] * 3, [False, False, True], [False, False, True]]


def test_masks_made_for_predictions_serve_training(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("bert")
    made = [tiny.random_prompts(backbone, length, offset=length) for length in (7, 8)]
    batch = tiny.text_batch([5, 5])
    with torch.inference_mode():
        first = combined(made, [1, 1])
        backbone(batch, first)
    for part in made[0].keys_values[0]:
        part.requires_grad_()
    again = combined(made, [1, 1])
    backbone(batch, again).sum().backward()
    assert made[0].keys_values[0][0].grad is not None
    assert again.offset is first.offset  # made once
    assert not again.offset.is_inference()
    assert not any(mask.is_inference() for mask in again.mask.values())


def test_nobody_with_prompts(backbone_of: BackboneOf) -> None:
    found = combined([Prompts(), Prompts()], [1, 2])
    assert found.keys_values == {}
    batch = tiny.text_batch([5, 3, 4])
    with torch.no_grad():
        torch.testing.assert_close(
            backbone_of("bert")(batch, found), backbone_of("bert")(batch, Prompts())
        )
