"""Prompts with their own softmax and a gate for each head, against an attention by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import plain
import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from ptv2_cli.backbones import attention
from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.injection import combined
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.errors import BackboneError
from ptv2_cli.inputs.batch import join_batches

BackboneOf = Callable[[str], Any]
REGISTERED = [name for name, family in FAMILIES.items() if family.registry]
LENGTHS = [9, 4, 2]
GATES: list[Tensor] = []
"""Gates [K] of the attention calls to come, in their order."""


def by_hand(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
    scaling: float | None = None, position_bias: Tensor | None = None, **rest: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """softmax(text) @ values + gate * softmax(prompt) @ prompt values, in as many words."""
    times = query.shape[1] // key.shape[1]
    prompt_key, prompt_value = (part.expand(len(query), -1, -1, -1) for part in plain.QUEUE.pop(0))
    prompt_key, prompt_value, key, value = (
        part.repeat_interleave(times, dim=1) for part in (prompt_key, prompt_value, key, value)
    )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.mT * scale + plain.or_zero(mask) + plain.or_zero(position_bias)
    text = scores.softmax(dim=-1) @ value
    prompt = (query @ prompt_key.mT * scale).softmax(dim=-1) @ prompt_value
    gate = GATES.pop(0).repeat_interleave(times)[:, None, None]
    return (text + gate * prompt).transpose(1, 2), None


AttentionInterface.register("gated_by_hand", by_hand)
AttentionMaskInterface.register("gated_by_hand", eager_mask)


def gates_of(backbone: Any, seed: int = 5) -> dict[int, Tensor]:
    """Random gates [1, K] for every site."""
    draws = torch.Generator().manual_seed(seed)
    return {
        number: torch.randn(1, site.heads, generator=draws)
        for number, site in enumerate(backbone.sites)
    }


@pytest.mark.parametrize("family", REGISTERED)
def test_states_equal_an_attention_by_hand(family: str, folder_of: Any, backbone_of: Any) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    values, gates = plain.random_values(backbone, 5), gates_of(backbone)
    prompts = Prompts(keys_values=dict(enumerate(values)), offset=5, gates=gates)
    model = plain.plain_model(folder_of(family), family, 5)
    model.set_attn_implementation("gated_by_hand")
    GATES[:] = [gates[site][0] for site in range(len(backbone.sites))]
    with torch.no_grad():
        expected = plain.hidden_states(model, family, batch, values, 5)
        states = backbone(batch, prompts)
    assert not GATES
    seen = batch.attention_mask.bool() if states.shape[1] > 1 else slice(None)
    torch.testing.assert_close(states[seen], expected[seen], atol=3e-5, rtol=3e-5)


@pytest.mark.parametrize("family", REGISTERED)
def test_a_gate_of_zero_is_no_prompt(family: str, backbone_of: BackboneOf) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    prompts = tiny.random_prompts(backbone, 4)
    closed = {site: torch.zeros_like(gate) for site, gate in gates_of(backbone).items()}
    with torch.no_grad():
        without = backbone(batch, Prompts())
        assert torch.equal(backbone(batch, replace(prompts, gates=closed)), without)
        opened = backbone(batch, replace(prompts, gates=gates_of(backbone)))
    assert (opened - without).abs().max() > 0.01


def test_owners_in_one_pass_are_as_alone(
    backbone_of: BackboneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of other lengths and at other sites; a row without a prompt at a site gets nothing there."""
    backbone = backbone_of("bert")
    batches = [tiny.text_batch(lengths, seed=at) for at, lengths in enumerate(([9, 4], [6]))]
    one = replace(tiny.random_prompts(backbone, 3, seed=1), gates=gates_of(backbone, 1))
    all_sites = tiny.random_prompts(backbone, 5, seed=2).keys_values
    assert all_sites is not None
    other = Prompts(keys_values={1: all_sites[1]}, gates={1: gates_of(backbone, 2)[1]})
    masks: list[Tensor | None] = []
    gated = attention._gated

    def noting(query: Tensor, keys: Tensor, values: Tensor, *rest: Any) -> Tensor:
        masks.append(rest[1])
        return gated(query, keys, values, *rest)

    monkeypatch.setattr(attention, "_gated", noting)
    with torch.no_grad():
        alone = [backbone(batch, own) for batch, own in zip(batches, (one, other), strict=True)]
        together = torch.split(
            backbone(join_batches(batches, 0), combined([one, other], [2, 1])), [2, 1]
        )
    # Not every kernel gives a number where a row sees nothing at all.
    assert any(mask is not None for mask in masks)
    assert all(mask is None or bool(mask.any(1).all()) for mask in masks)
    for batch, expected, found in zip(batches, alone, together, strict=True):
        kept = batch.attention_mask[..., None]
        length = kept.shape[1]
        torch.testing.assert_close(found[:, :length] * kept, expected * kept, atol=2e-5, rtol=1e-4)


def test_gradients_through_recomputed_layers_are_the_same(folder_of: Any) -> None:
    def gradients(checkpointed: bool) -> tuple[Tensor, ...]:
        backbone = tiny.load(folder_of("bert"), dropout="off").train()
        if checkpointed:
            backbone.checkpoint_gradients()
        values, gates = plain.random_values(backbone, 4), gates_of(backbone)
        leaves = [*(leaf for pair in values for leaf in pair), *gates.values()]
        prompts = Prompts(keys_values=dict(enumerate(values)), gates=gates)
        for gate in gates.values():
            gate.requires_grad_()
        backbone(tiny.text_batch(LENGTHS), prompts).sin().sum().backward()
        return tuple(leaf.grad for leaf in leaves)

    once, again = gradients(False), gradients(True)
    assert all(gradient.abs().max() > 0 for gradient in once)
    torch.testing.assert_close(again, once)


def test_a_family_with_an_attention_of_its_own_refuses_gates(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("deberta-v2")
    prompts = replace(tiny.random_prompts(backbone, 3), gates=gates_of(backbone))
    with pytest.raises(BackboneError, match="deberta-v2"):
        backbone(tiny.text_batch([5]), prompts)
