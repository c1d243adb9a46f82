"""Gradient checkpointing: equal gradients, and it really recomputes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from ptv2_cli.backbones.sites import Slot
from ptv2_cli.errors import BackboneError


def gradients(folder, checkpointed: bool, monkeypatch, **options):
    """Loss, prompt gradient and the number of attention calls of one forward and backward."""
    calls = [0]
    take = Slot.take

    def counting(self, name):
        calls[0] += 1
        return take(self, name)

    backbone = tiny.load(folder)
    learner = tiny.make_learner(backbone, pooling="last", init={"normal": 1.0}, **options)
    if checkpointed:
        backbone.checkpoint_gradients()
    batch = replace(tiny.text_batch([7, 4]), labels=torch.tensor([0, 2]))
    with monkeypatch.context() as patch:
        patch.setattr(Slot, "take", counting)
        loss = learner.train()(batch).loss
        loss.backward()
    return loss, learner.method.source.prompt.grad, calls[0]


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "modernbert"])
def test_same_gradients_with_twice_the_calls(family, folder_of, monkeypatch) -> None:
    loss, gradient, calls = gradients(folder_of(family), False, monkeypatch)
    again, repeated, more = gradients(folder_of(family), True, monkeypatch)
    assert (calls, more) == (3, 6)
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(repeated, gradient)


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


def test_a_family_that_cannot_is_refused(folder_of) -> None:
    with pytest.raises(BackboneError, match="albert models cannot recompute activations"):
        tiny.load(folder_of("albert")).checkpoint_gradients()
