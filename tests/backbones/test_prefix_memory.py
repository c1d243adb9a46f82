"""elu(q) M beside attention, against an attention by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import plain
import pytest
import tiny
import torch
from test_writing import check, loaded
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.injection import combined
from ptv2_cli.backbones.prefix_memory import read_memory
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.errors import BackboneError
from ptv2_cli.inputs.batch import join_batches

__all__ = ["loaded"]
BackboneOf = Callable[[str], Any]
REGISTERED = [name for name, family in FAMILIES.items() if family.registry]
LENGTHS = [9, 4, 2]


def by_hand(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
    scaling: float | None = None, position_bias: Tensor | None = None, **rest: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """softmax(text) @ values + elu(query) @ M, head by head."""
    times = query.shape[1] // key.shape[1]
    (memory, _) = plain.QUEUE.pop(0)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    added = plain.or_zero(mask) + plain.or_zero(position_bias)
    scores = query @ key.repeat_interleave(times, dim=1).mT * scale + added
    text = scores.softmax(dim=-1) @ value.repeat_interleave(times, dim=1)
    features = torch.where(query > 0, query, query.exp() - 1)
    heads = [features[:, head] @ memory[head // times] for head in range(query.shape[1])]
    return (text + torch.stack(heads, dim=1)).transpose(1, 2), None


AttentionInterface.register("memory_by_hand", by_hand)
AttentionMaskInterface.register("memory_by_hand", eager_mask)


def memories_of(backbone: Any, seed: int = 5, owners: int = 1) -> dict[int, Tensor]:
    """Random matrices [R, K, D, D] for every site."""
    draws = torch.Generator().manual_seed(seed)
    return {
        number: 0.3
        * torch.randn(owners, site.heads, site.head_size, site.head_size, generator=draws)
        for number, site in enumerate(backbone.sites)
    }


@pytest.mark.parametrize("family", REGISTERED)
def test_states_and_gradients_equal_an_attention_by_hand(
    family: str, folder_of: Any, backbone_of: BackboneOf
) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    model = plain.plain_model(folder_of(family), family)
    model.set_attn_implementation("memory_by_hand")
    found = []
    for plainly in (True, False):
        memories = memories_of(backbone)
        for memory in memories.values():
            memory.requires_grad_()
        if plainly:
            pairs = [(memory[0], memory[0]) for memory in memories.values()]
            states = plain.hidden_states(model, family, batch, pairs)
        else:
            states = backbone(batch, Prompts(memories=memories))
        seen = batch.attention_mask.bool() if states.shape[1] > 1 else slice(None)
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
        (states * weights)[seen].sum().backward()
        found.append((states[seen].detach(), [memory.grad for memory in memories.values()]))
    (states, gradients), (own_states, own_gradients) = found
    torch.testing.assert_close(own_states, states, atol=5e-5, rtol=5e-5)
    for one, other in zip(own_gradients, gradients, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)
    with torch.no_grad():
        assert (own_states - backbone(batch)[seen]).abs().max() > 0.01


@pytest.mark.parametrize("family", REGISTERED)
def test_a_matrix_of_zeros_changes_nothing(family: str, backbone_of: BackboneOf) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    method = tiny.make_method(backbone, "prefix_tuning_plus", None)
    with torch.no_grad():
        assert torch.equal(backbone(batch, method()), backbone(batch))


def test_owners_of_unequal_rows(backbone_of: BackboneOf) -> None:
    """Grouped heads; owners of equal and of unequal rows, and one without a matrix."""
    backbone = backbone_of("llama")
    batches = [tiny.text_batch(lengths, seed=at) for at, lengths in enumerate(([9, 4], [6], [5]))]
    first, second = (Prompts(memories=memories_of(backbone, seed)) for seed in (1, 2))
    second = replace(second, memories={1: (second.memories or {})[1]})
    for owners, chosen in (((first, second, Prompts()), (0, 1, 2)), ((first, second), (1, 2))):
        own = [batches[at] for at in chosen]
        rows = [batch.rows for batch in own]
        with torch.no_grad():
            together = torch.split(backbone(join_batches(own, 0), combined(owners, rows)), rows)
            for batch, prompts, found in zip(own, owners, together, strict=True):
                kept, expected = batch.attention_mask[..., None], backbone(batch, prompts)
                torch.testing.assert_close(
                    found[:, : kept.shape[1]] * kept, expected * kept, atol=2e-5, rtol=1e-4
                )
        assert (together[0][:, :1] - together[1][:, :1]).abs().max() > 0.01


def test_a_matrix_for_each_row() -> None:
    draws = torch.Generator().manual_seed(2)
    query = torch.randn(3, 4, 5, 8, generator=draws)
    memories = torch.randn(3, 2, 8, 8, generator=draws)
    found = read_memory(query, memories, None)
    for row in range(3):
        alone = read_memory(query[row : row + 1], memories[row : row + 1], None)
        torch.testing.assert_close(found[row : row + 1], alone)


def test_recomputed_layers_give_the_same_gradients(folder_of: Any) -> None:
    def gradients(checkpointed: bool) -> list[Tensor | None]:
        backbone = tiny.load(folder_of("bert"), dropout="off").train()
        if checkpointed:
            backbone.checkpoint_gradients()
        memories = memories_of(backbone)
        leaves = [memory.requires_grad_() for memory in memories.values()]
        backbone(tiny.text_batch(LENGTHS), Prompts(memories=memories)).sin().sum().backward()
        return [leaf.grad for leaf in leaves]

    torch.testing.assert_close(gradients(True), gradients(False))


def test_a_text_is_written_as_without_a_cache(loaded: Any) -> None:
    backbone, language = loaded
    if not backbone.shape.family.registry:
        pytest.skip("it has an attention of its own")
    check(backbone, language, Prompts(memories=memories_of(backbone)))


def test_a_family_with_an_attention_of_its_own_refuses_it(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("mpnet")
    with pytest.raises(BackboneError, match="mpnet"):
        backbone(tiny.text_batch([5]), Prompts(memories=memories_of(backbone)))
