"""Gates on keys and values that a hidden state opens, against hooks and an attention by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import plain
import pytest
import tiny
import torch
from test_writing import check, loaded, settings
from torch import Tensor

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.injection import combined, injection_of
from ptv2_cli.backbones.language.writing import write
from ptv2_cli.backbones.sites import PlainBatch, Prompts, StateGate
from ptv2_cli.errors import BackboneError
from ptv2_cli.inputs.batch import join_batches

__all__ = ["loaded"]
BackboneOf = Callable[[str], Any]
REGISTERED = [name for name, family in FAMILIES.items() if family.registry]
LENGTHS = [9, 4, 2]
P = 5


def gates_of(backbone: Any, length: int = P, seed: int = 5) -> dict[int, StateGate]:
    """Random gates of every site, wide open or closed."""
    draws = torch.Generator().manual_seed(seed)
    width = int(backbone.model.config.hidden_size)
    return {
        number: StateGate(
            6 * torch.randn(1, width, length, generator=draws),
            1 + torch.rand(1, generator=draws),
        )
        for number in range(len(backbone.sites))
    }


def gated(backbone: Any, seed: int = 5, length: int = P, **fields: Any) -> Prompts:
    prompts = tiny.random_prompts(backbone, length, seed=seed, **fields)
    return replace(prompts, state_gates=gates_of(backbone, length, seed))


@pytest.mark.parametrize("family", REGISTERED)
def test_states_and_gradients_equal_an_attention_by_hand(
    family: str, folder_of: Any, backbone_of: BackboneOf
) -> None:
    """A plain model whose attention modules scale the next prompt by what they read first."""
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    model = plain.plain_model(folder_of(family), family)
    names = {site.module for site in backbone.sites}
    twins = dict(backbone.model.named_modules())

    def scale(module: Any, args: Any, kwargs: Any) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        gate = gates.pop(0)
        factors = gate.scale * torch.sigmoid(hidden[:, 0] @ gate.weight[0] / hidden.shape[2] ** 0.5)
        keys, values = plain.QUEUE[0]
        plain.QUEUE[0] = (keys * factors[:, None, :, None], values * factors[:, None, :, None])

    for name, module in model.named_modules():
        if name in twins and injection_of(twins[name])[1] in names:
            module.register_forward_pre_hook(scale, with_kwargs=True)
    found = []
    for by_hand in (True, False):
        made, pairs = gates_of(backbone), plain.random_values(backbone, P)
        leaves = [leaf for gate in made.values() for leaf in (gate.weight, gate.scale)]
        for leaf in leaves:
            leaf.requires_grad_()
        leaves += [leaf for pair in pairs for leaf in pair]
        if by_hand:
            gates = list(made.values())
            states = plain.hidden_states(model, family, batch, pairs)
            assert not gates
        else:
            prompts = Prompts(keys_values=dict(enumerate(pairs)), state_gates=made)
            states = backbone(batch, prompts)
        seen = batch.attention_mask.bool() if states.shape[1] > 1 else slice(None)
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
        (states * weights)[seen].sum().backward()
        found.append((states[seen].detach(), [leaf.grad for leaf in leaves]))
    (states, gradients), (own_states, own_gradients) = found
    torch.testing.assert_close(own_states, states, atol=5e-5, rtol=5e-5)
    for one, other in zip(own_gradients, gradients, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)
    with torch.no_grad():
        open_ = replace(prompts, state_gates=None)
        assert (own_states - backbone(batch, open_)[seen]).abs().max() > 0.01


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_recomputed_layers_give_the_same_gradients(family: str, folder_of: Any) -> None:
    def gradients(checkpointed: bool) -> list[Tensor | None]:
        backbone = tiny.load(folder_of(family), dropout="off").train()
        if checkpointed:
            backbone.checkpoint_gradients()
        prompts = gated(backbone)
        leaves = [gate.weight.requires_grad_() for gate in (prompts.state_gates or {}).values()]
        leaves += [
            leaf.requires_grad_() for pair in (prompts.keys_values or {}).values() for leaf in pair
        ]
        backbone(tiny.text_batch(LENGTHS), prompts).sin().sum().backward()
        return [leaf.grad for leaf in leaves]

    once, again = gradients(False), gradients(True)
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in once)
    torch.testing.assert_close(again, once)


@pytest.mark.parametrize("family", [name for name in REGISTERED if FAMILIES[name].causal])
def test_padding_on_either_side_and_words_to_come(family: str, backbone_of: BackboneOf) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    prompts = gated(backbone, offset=P)
    rolled = [
        torch.stack([row.roll(len(row) - size) for row, size in zip(part, LENGTHS, strict=True)])
        for part in (batch.input_ids, batch.attention_mask)
    ]
    with torch.no_grad():
        right = backbone(batch, prompts)
        left = backbone(PlainBatch(*rolled), prompts)
        short = backbone(PlainBatch(batch.input_ids[:1, :3], batch.attention_mask[:1, :3]), prompts)
    for row, size in enumerate(LENGTHS):
        torch.testing.assert_close(left[row, -size:], right[row, :size], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(short[0], right[0, :3], atol=1e-4, rtol=1e-4)


def test_owners_in_one_pass_are_as_alone(backbone_of: BackboneOf) -> None:
    """Of other lengths, rows and sites."""
    backbone = backbone_of("llama")
    batches = [tiny.text_batch(lengths, seed=at) for at, lengths in enumerate(([9, 4], [6], [5]))]
    one, two, three = gated(backbone, 1, 3), gated(backbone, 2, 6), gated(backbone, 3, 4)
    assert two.keys_values is not None
    assert two.state_gates is not None
    two = Prompts(keys_values={1: two.keys_values[1]}, state_gates={1: two.state_gates[1]})
    owners, rows = (one, two, three), [batch.rows for batch in batches]
    with torch.no_grad():
        states = backbone(join_batches(batches, 0), combined(owners, rows))
        for batch, own, found in zip(batches, owners, torch.split(states, rows), strict=True):
            kept, expected = batch.attention_mask[..., None], backbone(batch, own)
            torch.testing.assert_close(
                found[:, : kept.shape[1]] * kept, expected * kept, atol=2e-5, rtol=1e-4
            )


def test_a_text_is_written_as_without_a_cache(loaded: Any) -> None:
    backbone, language = loaded
    if not backbone.shape.family.registry:
        pytest.skip("it has an attention of its own")
    prompts = gated(backbone, offset=P)
    written = check(backbone, language, prompts)
    batch = tiny.text_batch([7, 4, 6], high=390)
    plainly = PlainBatch(batch.input_ids, batch.attention_mask)
    with torch.no_grad():
        beams = write(backbone, language, plainly, prompts, settings(num_beams=2))
        again = write(backbone, language, plainly, prompts, settings())
        for row, length in enumerate((7, 4, 6)):
            ids = batch.input_ids[row : row + 1, :length]
            alone = PlainBatch(ids, torch.ones_like(ids))
            single = write(backbone, language, alone, prompts, settings(num_beams=2))
            count = int(single.lengths[0])
            assert beams.ids[row, :count].tolist() == single.ids[0, :count].tolist()
    assert torch.equal(again.ids, written.ids)


def test_without_gates_nothing_is_kept(folder_of: Any) -> None:
    backbone, batch = tiny.load(folder_of("bert")).eval(), tiny.text_batch(LENGTHS)
    prompts = gated(backbone)
    states = backbone.injection.states
    with torch.no_grad():
        for _ in range(2):
            backbone(batch, prompts)
        modules = dict(backbone.model.named_modules())
        hooks = [len(modules[site.module]._forward_pre_hooks) for site in backbone.sites]
        assert hooks == [1, 1, 1]
        backbone(batch, replace(prompts, state_gates=None))
    assert states._hidden is None


def test_a_family_with_an_attention_of_its_own_refuses_them(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("bloom")
    with pytest.raises(BackboneError, match="bloom"):
        backbone(tiny.text_batch([5]), gated(backbone))
