"""Gradient checkpointing: equal gradients, and it really recomputes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.injection import Injection
from ptv2_cli.errors import BackboneError

ABLE = [name for name, family in FAMILIES.items() if family.checkpointing]


def gradients(folder, checkpointed: bool, monkeypatch, *, dropout="off", **options):
    """Loss, prompt gradient and the number of attention calls of one forward and backward."""
    calls = [0]
    take = Injection.take

    def counting(self, name):
        calls[0] += 1
        return take(self, name)

    backbone = tiny.load(folder, dropout=dropout)
    pooling = "cls" if backbone.decodes else "last"
    learner = tiny.make_learner(backbone, pooling=pooling, init={"normal": 1.0}, **options)
    if checkpointed:
        backbone.checkpoint_gradients()
    batch = replace(tiny.text_batch([7, 4]), labels=torch.tensor([0, 2]))
    with monkeypatch.context() as patch:
        patch.setattr(Injection, "take", counting)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            loss = learner.train()(batch).loss
            loss.backward()
    return loss, learner.method.source.prompt.grad, calls[0]


@pytest.mark.parametrize("dropout", ["off", 0.3])
@pytest.mark.parametrize("family", ABLE)
def test_same_gradients_with_twice_the_calls(family, dropout, folder_of, monkeypatch) -> None:
    folder = folder_of(family)
    loss, gradient, calls = gradients(folder, False, monkeypatch, dropout=dropout)
    again, repeated, more = gradients(folder, True, monkeypatch, dropout=dropout)
    sites = {"mt5": 3 + 2 * 2, "bart": 3 + 2 * 2, "t5": 3 * 3}.get(family, 3)
    assert (calls, more) == (sites, 2 * sites)
    assert gradient.abs().sum() > 0
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(repeated, gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("sites", "more"), [("encoder", 7 + 7), ("decoder", 7 + 4), ("cross", 7 + 4)]
)
@pytest.mark.parametrize("family", ["mt5", "bart"])
def test_stacks_without_a_graph_are_not_recomputed(
    family, sites, more, folder_of, monkeypatch
) -> None:
    """Three encoder layers and two decoder layers of two calls each."""
    _, gradient, calls = gradients(folder_of(family), False, monkeypatch, sites=sites)
    _, repeated, found = gradients(folder_of(family), True, monkeypatch, sites=sites)
    assert (calls, found) == (7, more)
    torch.testing.assert_close(repeated, gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_alone_recomputes_too(family, folder_of) -> None:
    backbone = tiny.load(folder_of(family))
    backbone.drop_decoder()
    batch = tiny.text_batch([7, 4])
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            backbone.checkpoint_gradients()
        calls = []
        hooks = [
            module.register_forward_hook(lambda *call, to=calls: to.append(1))
            for name, module in backbone.model.named_modules()
            if name.endswith(("SelfAttention", "self_attn"))
        ]
        method = tiny.make_method(backbone, "ptuning_v2", 4, init={"normal": 1.0})
        backbone(batch, method())[:, 0].square().mean().backward()
        found.append((len(calls), method.source.prompt.grad))
        for hook in hooks:
            hook.remove()
    assert [calls for calls, _ in found] == [3, 6]
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_layers_without_a_graph_are_not_recomputed(family, folder_of, monkeypatch) -> None:
    _, gradient, _ = gradients(folder_of(family), False, monkeypatch, layers="last:1")
    _, repeated, calls = gradients(folder_of(family), True, monkeypatch, layers="last:1")
    assert calls == 4
    torch.testing.assert_close(repeated, gradient)


def test_one_module_called_several_times_is_recomputed_in_reverse(folder_of, monkeypatch) -> None:
    """ALBERT with torch's own checkpoints around each call: the calls are told apart."""
    from torch.utils.checkpoint import checkpoint

    folder = folder_of("albert")
    loss, gradient, _ = gradients(folder, False, monkeypatch)
    from transformers.models.albert.modeling_albert import AlbertLayerGroup

    plain = AlbertLayerGroup.forward
    monkeypatch.setattr(
        AlbertLayerGroup,
        "forward",
        lambda self, *a, **k: checkpoint(plain, self, *a, use_reentrant=False, **k),
    )
    again, repeated, calls = gradients(folder, False, monkeypatch)
    assert calls == 6
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(repeated, gradient)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - set(ABLE)))
def test_a_family_that_cannot_is_refused(family, folder_of) -> None:
    with pytest.raises(BackboneError, match=f"{family} models cannot recompute activations"):
        tiny.load(folder_of(family)).checkpoint_gradients()


def test_those_that_cannot() -> None:
    assert FAMILIES.keys() - set(ABLE) == {"albert", "mpnet"}
