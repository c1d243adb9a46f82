"""Prompts behind gates that train: what they start with and what learns when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.learner import Learner
from ptv2_cli.methods.ptuning_v2 import PTuningV2
from ptv2_cli.training.optim import LearningRates, build_optimizer

REGISTERED = [name for name, family in FAMILIES.items() if family.registry]
LENGTHS = [7, 4, 5]


def labelled(lengths: list[int] = LENGTHS) -> Any:
    batch = tiny.text_batch(lengths)
    return replace(batch, labels=torch.arange(batch.rows) % 3)


def step(learner: Learner) -> list[Tensor]:
    """One step; the gradients of the method's gates and prompt, in the order of their names."""
    optimizer = build_optimizer(learner, LearningRates(0.1, 0.1, 0.1), 0.0)
    learner(labelled()).loss.backward()
    named = sorted(learner.method.named_parameters())
    gradients = [value.grad.clone() for _, value in named]
    optimizer.step()
    optimizer.zero_grad()
    return gradients


# softmax: separate


@pytest.mark.parametrize("family", REGISTERED)
def test_a_separate_softmax_starts_as_the_backbone_without_a_prompt(
    family: str, backbone_of: Any
) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    method = tiny.make_method(
        backbone, "ptuning_v2", 4, softmax="separate", init={"normal": 1.0}
    ).eval()
    with torch.no_grad():
        bare = backbone(batch)
        assert torch.equal(backbone(batch, method()), bare)
        method.gate.fill_(0.5)
        assert (backbone(batch, method()) - bare).abs().max() > 0.01


@pytest.mark.parametrize("family", REGISTERED)
def test_gates_learn_first_then_keys_and_values(family: str, folder_of: Any) -> None:
    backbone = tiny.load(folder_of(family))
    learner = tiny.make_learner(
        backbone, pooling="mean", softmax="separate", init={"normal": 1.0}, seed=3
    )
    before = learner.method.source.prompt.detach().clone()
    gates, values = step(learner)
    assert not values.any()
    assert (gates != 0).all()
    assert torch.equal(learner.method.source.prompt, before)
    _, values = step(learner)
    parts = torch.split(
        values, [site.width // 2 for site in learner.method.sites.values() for _ in range(2)], dim=1
    )
    assert all(part.abs().max() > 0 for part in parts)
    assert not torch.equal(learner.method.source.prompt, before)


def test_each_head_has_the_gate_of_its_site(backbone_of: Any) -> None:
    method = tiny.make_method(
        backbone_of("llama"), "ptuning_v2", 5, softmax="separate", layers="2-3"
    )
    with torch.no_grad():
        method.gate.copy_(torch.tensor([0.0, 1.0, 2.0, -3.0]))
    gates = method().gates
    assert gates.keys() == {1, 2}
    torch.testing.assert_close(gates[1], torch.tensor([[0.0, 1.0]]).tanh())
    torch.testing.assert_close(gates[2], torch.tensor([[2.0, -3.0]]).tanh())
    assert method.counts() == {"prompt": 2 * 2 * 16 * 5 + 2 * 2, "reparam": 0}


def test_gates_beside_a_network(backbone_of: Any) -> None:
    options = {"softmax": "separate", "reparam": "mlp", "reparam_hidden": 8}
    method = tiny.make_method(backbone_of("bert"), "ptuning_v2", 5, **options)
    plain = tiny.make_method(backbone_of("bert"), "ptuning_v2", 5, reparam="mlp", reparam_hidden=8)
    counts = plain.counts()
    assert method.counts() == {**counts, "prompt": counts["prompt"] + 3 * 4}


def test_a_separate_softmax_leaves_the_text_where_it_is(backbone_of: Any) -> None:
    for word in ("shift", "keep"):
        spec = PTuningV2(softmax="separate", position_offset=word)
        assert not spec.takes_positions
        assert "with a softmax of their own" in spec.describe(5, {"self": 3})
        assert "begin at 0" in spec.describe(5, {"self": 3})
    assert tiny.make_method(backbone_of("bert"), "ptuning_v2", 5, softmax="separate").offset == 0


def test_values_and_gates_at_zero_would_never_learn() -> None:
    ((key, what),) = PTuningV2(softmax="separate", init="zero").problems(None, {"self": 3})
    assert key == "init"
    assert "nothing learns" in what


def test_peft_has_no_second_softmax() -> None:
    ((what, fix),) = PTuningV2(softmax="separate").peft_obstacles(3)
    assert "shares the text's softmax" in what
    assert fix == "train it with --unset method.softmax"


# gates: apt


def test_apt_starts_as_ptuning_v2(backbone_of: Any) -> None:
    for family in ("bert", "llama", "t5"):
        backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
        options = {"init": {"normal": 1.0}}
        gated, plain = (
            tiny.make_method(backbone, "ptuning_v2", 4, gates=word, **options).eval()
            for word in ("apt", "none")
        )
        with torch.no_grad():
            expected = backbone(batch, plain())
            assert torch.equal(backbone(batch, gated()), expected)
            gated.state_weight.normal_()
            assert (backbone(batch, gated()) - expected).abs().max() > 0.01


@pytest.mark.parametrize("family", REGISTERED)
def test_gates_of_every_layer_and_position_learn(family: str, folder_of: Any) -> None:
    learner = tiny.make_learner(
        tiny.load(folder_of(family)), pooling="mean", gates="apt", init={"normal": 1.0}
    )
    prompt, scale, weight = step(learner)
    assert weight.shape == (len(learner.method.sites), 32, 4)
    assert (weight.abs().amax(dim=1) > 0).all()
    assert (scale != 0).all()
    assert prompt.any()


def test_apt_counts_its_gates_as_a_network(backbone_of: Any) -> None:
    method = tiny.make_method(backbone_of("bert"), "ptuning_v2", 5, gates="apt", layers="2-3")
    assert method.counts() == {"prompt": 2 * 2 * 32 * 5, "reparam": 2 * 32 * 5 + 2}
    assert "5 gated keys and values before" in PTuningV2(gates="apt").describe(5, {"self": 3})


def test_what_apt_cannot_do(folder_of: Any, tmp_path: Any) -> None:
    ((what, fix),) = PTuningV2(gates="apt").peft_obstacles(3)
    assert "differ from text to text" in what
    assert fix == "train it with --unset method.gates"
    data = tiny.write_rte(tmp_path / "rte")
    config = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data)
    message = tiny.problems(
        config, "method.gates=apt", "train.compile=true", "backbone.dropout=off"
    )
    assert "train.compile hides" in message
