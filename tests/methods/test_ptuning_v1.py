"""P-tuning v1: encoded vectors at the slots of a template."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch import nn

from ptv2_cli.backbones.sites import InputVectors, Prompts
from ptv2_cli.methods.ptuning_v1 import PTuningV1
from ptv2_cli.training.optim import LearningRates, build_optimizer

SLOTS = torch.tensor([[-1, 0, 1, -1, -1, 2, -1], [-1, 0, 1, -1, 2, -1, -1]])


def test_slots_take_the_vectors_and_leave_the_text(folder_of, backbone_of) -> None:
    backbone = backbone_of("bert")
    batch = replace(tiny.text_batch([7, 6]), slots=SLOTS)
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    model = tiny.stock(folder_of("bert"))
    embeds = model.get_input_embeddings()(batch.input_ids).detach().clone()
    for row in range(2):
        for column, slot in enumerate(SLOTS[row].tolist()):
            if slot >= 0:
                embeds[row, column] = vectors[slot]
    with torch.no_grad():
        expected = model(
            inputs_embeds=embeds, attention_mask=batch.attention_mask
        ).last_hidden_state
        found = backbone(batch, Prompts(inputs=InputVectors(vectors, None)))
    real = batch.attention_mask.bool()
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)


def test_vectors_without_slots_are_an_error(backbone_of) -> None:
    with pytest.raises(ValueError, match="need a batch with slots"):
        backbone_of("bert")(
            tiny.text_batch([4]), Prompts(inputs=InputVectors(torch.zeros(3, 32), None))
        )


@pytest.mark.parametrize("size", [32, 33])
def test_lstm_encoder_shapes_even_and_odd(size, backbone_of) -> None:
    context = tiny.context(backbone_of("bert"), word_embeddings=torch.zeros(5, size), prompt_len=6)
    method = PTuningV1().build(context)
    lstm = method.lstm
    assert (lstm.num_layers, lstm.bidirectional, lstm.hidden_size) == (2, True, size // 2)
    assert [type(layer) for layer in method.mlp] == [nn.Linear, nn.ReLU, nn.Linear]
    prompts = method()
    assert prompts.inputs.vectors.shape == (6, size)
    assert prompts.inputs.column is None
    prompts.inputs.vectors.sum().backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    total = sum(parameter.numel() for parameter in method.parameters())
    assert method.counts() == {"prompt": 6 * size, "reparam": total - 6 * size}


def test_mlp_encoder_is_the_mlp_alone(backbone_of) -> None:
    method = tiny.make_method(backbone_of("bert"), "ptuning_v1", 6, encoder="mlp")
    assert method.lstm is None
    torch.testing.assert_close(method().inputs.vectors, method.mlp(method.prompt))


def test_backbone_has_its_own_learning_rate(folder_of) -> None:
    learner = tiny.make_learner(
        tiny.load(folder_of("bert")), "ptuning_v1", 3, train_backbone=True, backbone_lr=3e-6
    )
    rates = LearningRates(1e-4, 2e-4, learner.method.backbone_lr)
    optimizer = build_optimizer(learner, rates, 0.1)
    sizes = {"method": 0, "head": 0, "backbone": 0}
    for group in optimizer.param_groups:
        part = {1e-4: "method", 2e-4: "head", 3e-6: "backbone"}[group["lr"]]
        sizes[part] += sum(parameter.numel() for parameter in group["params"])
    for part in sizes:
        assert sizes[part] == sum(p.numel() for p in getattr(learner, part).parameters())


def test_frozen_backbone_stays_out_of_the_optimizer(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), "ptuning_v1", 3)
    assert not list(learner.own_parameters("backbone"))
    assert learner.counts()["trainable"] == sum(learner.method.counts().values()) + 99


def test_seed_decides_the_encoder(backbone_of) -> None:
    one, same, other = (
        tiny.make_method(backbone_of("bert"), "ptuning_v1", 3, seed).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
