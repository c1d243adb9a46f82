"""What gets gradient, what trains and what stays as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.training.optim import LearningRates, build_optimizer


def labelled(batch):
    return replace(batch, labels=torch.arange(batch.rows) % 3)


def step(learner, batch, lr: float = 0.1) -> None:
    optimizer = build_optimizer(learner, LearningRates(lr, lr, lr), 0.0)
    for _ in range(3):
        learner(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2", "llama", "modernbert"])
def test_every_layers_keys_and_values_get_gradient(family, folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of(family)), pooling="last")
    learner(labelled(tiny.text_batch([7, 4]))).loss.backward()
    gradient = learner.method.source.prompt.grad.view(4, 3, 2, -1)
    assert (gradient.abs().amax(dim=(0, 3)) > 0).all()  # [layers, keys and values]
    assert all(parameter.grad is None for parameter in learner.backbone.parameters())


@pytest.mark.parametrize("method", ["ptuning_v2", "prompt_tuning", "head_only"])
def test_frozen_backbone_is_bit_identical_after_training(method, folder_of) -> None:
    learner = tiny.make_learner(
        tiny.load(folder_of("bert"), dropout=None), method, None if method == "head_only" else 4
    )
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    step(learner, labelled(tiny.text_batch([7, 4, 5])))
    for name, value in learner.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("backbone."), name


def test_finetune_moves_the_whole_backbone(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), "finetune", None)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    step(learner, labelled(tiny.text_batch([7, 4, 5])))
    stayed = [n for n, value in learner.state_dict().items() if torch.equal(value, before[n])]
    assert all("key.bias" in name for name in stayed)  # a key bias shifts all scores alike


def test_trainable_count_is_prompt_plus_head(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), prompt_len=6)
    head = 32 * 3 + 3
    counts = learner.counts()
    assert counts["trainable"] == 2 * 3 * 32 * 6 + head
    assert (counts["prompt"], counts["reparam"], counts["head"]) == (2 * 3 * 32 * 6, 0, head)
    backbone = sum(p.numel() for p in learner.backbone.parameters())
    assert counts["backbone"] == backbone
    assert counts["prompt_percent"] == pytest.approx(100 * 1152 / backbone)
    assert counts["trainable_percent"] == pytest.approx(
        100 * counts["trainable"] / (backbone + head + 1152)
    )


def test_layers_below_the_lowest_prompt_have_no_graph(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), layers="last:1")
    graphs: list[bool] = []
    for layer in learner.backbone.model.encoder.layer:
        layer.register_forward_hook(lambda *call: graphs.append(call[2].requires_grad))
    batch = labelled(tiny.text_batch([7, 4]))
    learner(batch).loss.backward()
    assert graphs == [False, False, True]
    assert learner.method.source.prompt.shape == (4, 2 * 32)
    assert set(learner.method().keys_values) == {2}


def test_layers_put_prompts_there_and_nowhere_else(backbone_of) -> None:
    backbone = backbone_of("bert")
    batch = tiny.text_batch([7, 4])
    method = tiny.make_method(backbone, "ptuning_v2", 4, layers="2", init={"normal": 1.0})
    everywhere = tiny.random_prompts(backbone, 4)
    with torch.no_grad():
        states: dict[str, list[torch.Tensor]] = {"plain": [], "prompted": []}
        for name, prompts in (("plain", Prompts(offset=4)), ("prompted", method())):
            hooks = [
                layer.register_forward_hook(lambda *call, to=states[name]: to.append(call[2]))
                for layer in backbone.model.encoder.layer
            ]
            backbone(batch, prompts)
            for hook in hooks:
                hook.remove()
    differs = [
        not torch.equal(a, b) for a, b in zip(states["plain"], states["prompted"], strict=True)
    ]
    assert differs == [False, True, True]
    assert set(everywhere.keys_values) == {0, 1, 2}


def test_own_state_holds_prompt_and_head_or_everything(folder_of) -> None:
    def names(method: str, prompt_len: int | None) -> set[str]:
        return set(tiny.make_learner(tiny.load(folder_of("bert")), method, prompt_len).own_state())

    head = {"head.linear.weight", "head.linear.bias"}
    assert names("ptuning_v2", 4) == {"method.source.prompt", *head}
    assert names("prompt_tuning", 4) == {"method.prompt", *head}
    assert names("head_only", None) == head
    whole = names("finetune", None)
    assert head < whole
    assert {name for name in whole if "attention.self.query.weight" in name}
    both = tiny.make_learner(
        tiny.load(folder_of("bert")), "ptuning_v1", 4, train_backbone=True
    ).own_state()
    assert "backbone.model.encoder.layer.0.attention.self.query.weight" in both
