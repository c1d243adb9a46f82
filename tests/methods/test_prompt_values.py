"""Keys apart from values, a first position that stays, and the residual network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch.nn import functional

from ptv2_cli.methods.ptuning_v2 import PTuningV2
from ptv2_cli.training.optim import LearningRates, build_optimizer

WIDTH = 2 * 3 * 32
"""Keys and values of one position in three layers of 32."""
APART = {"key_lr_factor": 0.1}


def step(learner, steps: int = 1, weight_decay: float = 0.0) -> None:
    optimizer = build_optimizer(learner, LearningRates(0.1, 0.1, 0.1), weight_decay)
    batch = replace(tiny.text_batch([7, 4, 5]), labels=torch.arange(3) % 3)
    for _ in range(steps):
        learner(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def halves(method) -> tuple[torch.Tensor, torch.Tensor]:
    """All keys and all values [S, K, P, D]."""
    sites = method.eval()().keys_values.values()
    keys, values = (torch.cat(parts).detach().clone() for parts in zip(*sites, strict=True))
    return keys, values


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_keys_apart_are_the_same_prompt(family, backbone_of) -> None:
    one, two = (
        tiny.make_method(backbone_of(family), "ptuning_v2", 5, **options) for options in ({}, APART)
    )
    for whole, apart in zip(halves(one), halves(two), strict=True):
        assert torch.equal(whole, apart)
    assert one.counts() == two.counts()


def test_keys_take_steps_of_their_own_length(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), **APART)
    before = halves(learner.method)
    step(learner)
    keys, values = (
        (after - old).abs() for after, old in zip(halves(learner.method), before, strict=True)
    )
    # AdamW's first step is as long as the learning rate, where the gradient is far from its eps.
    assert values.median().item() == pytest.approx(0.1, rel=0.01)
    assert keys.median().item() == pytest.approx(0.01, rel=0.01)


def test_keys_with_a_factor_of_0_do_not_train(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), key_lr_factor=0)
    before = halves(learner.method)
    step(learner, steps=2, weight_decay=0.5)
    keys, values = halves(learner.method)
    assert torch.equal(keys, before[0])
    assert not torch.equal(values, before[1])
    assert learner.counts()["prompt"] == WIDTH * 4 // 2
    assert learner.counts()["trainable"] == WIDTH * 4 // 2 + 32 * 3 + 3


def test_equal_rates_leave_the_optimizer_as_it_is(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), key_lr_factor=1)
    groups = build_optimizer(learner, LearningRates(0.5, 0.1, 9.0), 0.01).param_groups
    assert [len(group["params"]) for group in groups] == [1, 1, 1]
    assert groups[0]["params"][0] is learner.method.source.prompt


def test_a_factor_has_a_group_of_its_own(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), **APART)
    groups = build_optimizer(learner, LearningRates(0.5, 0.1, 9.0), 0.01).param_groups
    source = learner.method.source
    assert [(group["params"][0] is source.values, group["peak_lr"]) for group in groups[:2]] == [
        (True, 0.5),  # first: the rate that the history shows
        (False, pytest.approx(0.05)),
    ]
    assert groups[1]["params"] == [source.keys]


@pytest.mark.parametrize("options", [{}, APART, {"reparam": "residual", "reparam_hidden": 8}])
def test_the_first_position_stays(options, folder_of) -> None:
    backbone = tiny.load(folder_of("gpt2"))
    shared = {"init": {"normal": 1.0}, "dropout": 0.5, **options}
    learner = tiny.make_learner(backbone, pooling="last", freeze_first=True, **shared)
    plain = tiny.make_method(backbone, "ptuning_v2", 4, init={"normal": 1.0})
    begun = halves(learner.method)
    for ours, whole in zip(begun, halves(plain), strict=True):
        assert torch.equal(ours, whole)
    learner.train()
    step(learner, steps=3, weight_decay=0.5)
    trained = halves(learner.method)
    for now, then in zip(trained, begun, strict=True):
        assert torch.equal(now[:, :, :1], then[:, :, :1])
        assert ((now - then)[:, :, 1:].abs().amax(dim=(0, 1, 3)) > 0).all()
    learner.train()
    for key, value in learner.method().keys_values.values():  # dropout does not touch it either
        assert key[:, :, 0].count_nonzero() == key[:, :, 0].numel()
        assert not value[:, :, 1:].all()


def test_a_first_position_that_stays_is_saved_and_not_counted(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("gpt2")), freeze_first=True)
    counts = learner.counts()
    assert counts["prompt"] == 3 * WIDTH
    assert counts["trainable"] == 3 * WIDTH + counts["head"]
    assert "method.first" in learner.own_state()


def residual(backbone, **options):
    return tiny.make_method(
        backbone, "ptuning_v2", 4, reparam="residual", reparam_hidden=8, **options
    )


@pytest.mark.parametrize("init", ["normal", {"text": "the cat sat"}, "vocab"])
def test_the_residual_network_begins_at_init(init, backbone_of) -> None:
    backbone = backbone_of("bert")
    plain = tiny.make_method(backbone, "ptuning_v2", 4, init=init)
    for ours, direct in zip(halves(residual(backbone, init=init)), halves(plain), strict=True):
        assert torch.equal(ours, direct)


def test_the_residual_network_by_hand(backbone_of) -> None:
    method = residual(backbone_of("bert"), init={"normal": 1.0})
    down, _, up, norm = method.source.network
    with torch.no_grad():
        for parameter in (down.bias, up.bias, norm.weight, norm.bias):
            parameter.normal_(generator=torch.Generator().manual_seed(1))
        prompt = method.source.prompt
        inner = functional.relu(prompt @ down.weight.T + down.bias) @ up.weight.T + up.bias
        scaled = (inner - inner.mean(1, True)) / (
            inner.var(1, correction=0, keepdim=True) + 1e-5
        ).sqrt()
        expected = prompt + scaled * norm.weight + norm.bias
        torch.testing.assert_close(method.source(), expected)
    assert method.counts() == {
        "prompt": 4 * WIDTH,
        "reparam": 8 * WIDTH + 8 + 8 * WIDTH + WIDTH + 2 * WIDTH,
    }


def test_the_whole_residual_network_learns(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), reparam="residual", reparam_hidden=8)
    before = {name: value.clone() for name, value in learner.method.state_dict().items()}
    step(learner, steps=3)
    for name, value in learner.method.state_dict().items():
        assert not torch.equal(value, before[name]), name


def test_the_residual_network_takes_shorter_steps_than_the_prompt(folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), reparam="residual", reparam_hidden=8)
    groups = build_optimizer(learner, LearningRates(0.5, 0.1, 9.0), 0.01).param_groups
    rates = {value: group["peak_lr"] for group in groups for value in group["params"]}
    source = learner.method.source
    assert rates[source.prompt] == groups[0]["peak_lr"] == 0.5
    assert {rates[value] for value in source.network.parameters()} == {0.5 * 0.03}


@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        ({"key_lr_factor": 0.5, "reparam": "mlp"}, "key_lr_factor", "reparam: mlp one network"),
        ({"key_lr_factor": 0.5, "reparam": "residual"}, "key_lr_factor", "residual one network"),
        ({"freeze_first": True, "reparam": "mlp"}, "freeze_first", "computes every position"),
    ],
)
def test_options_that_rule_each_other_out(options, key, said) -> None:
    ((where, what),) = PTuningV2(**options).problems(None, {"self": 3})
    assert where == key
    assert said in what


def test_what_the_backbone_or_the_length_rules_out(folder_of, tmp_path) -> None:
    data = tiny.write_rte(tmp_path / "rte")
    for family, sets, said in (
        ("bert", (), "freeze_first is for causal models, and bert is none"),
        ("bart", (), "freeze_first is for causal models"),
        ("gpt2", ("prompt_len=1",), "the first position is the only one: prompt_len is 1"),
    ):
        config = tiny.write_config(tmp_path / f"{family}.yaml", folder_of(family), data)
        message = tiny.problems(config, "method.freeze_first=true", *sets)
        assert "method.freeze_first: " in message
        assert said in message
    tiny.resolved(config, "method.freeze_first=true")
