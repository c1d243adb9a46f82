"""lora, dora, rslora, ia3 and ln_tuning: what trains, on every family, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import util
from typing import Any

import pytest
import tiny
import torch
from peft import get_peft_model_state_dict
from torch import nn

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.rng import RowDraws
from ptv2_cli.training.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from ptv2_cli.training.optim import LearningRates, build_optimizer

METHODS = ("lora", "dora", "rslora", "ia3", "ln_tuning")
IA3 = ["method.name=ia3", "method.target_modules=[key]"]
ALONE = (".decoder.block.{}.layer.0.SelfAttention.", ".decoder.layers.{}.self_attn.")
"""Attention of a decoder's one token to itself: queries and keys change nothing."""


def learner_of(folder: Any, method: str, seed: int = 0, **options: Any):
    backbone = tiny.load(folder)
    pooling = backbone.shape.family.pooling
    learner = tiny.make_learner(backbone, method, None, pooling=pooling, seed=seed, **options)
    with torch.no_grad():
        learner.head.linear.weight.mul_(25.0)
    return learner


def moved(learner) -> None:
    """Move what trains, so that no product is zero."""
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in learner.method.parameters():
            value.add_(torch.randn(value.shape, generator=source) * 0.1)


def answers(learner, batch) -> torch.Tensor:
    with torch.no_grad():
        return learner(batch).predictions["probabilities"]


def batch() -> Any:
    return replace(tiny.text_batch([9, 7]), labels=torch.tensor([1, 2]))


def idle(name: str) -> bool:
    parts = (part.format(layer) for part in ALONE for layer in range(3))
    where = any(part in name for part in parts)
    return where and any(f".{end}." in name for end in ("q", "k", "q_proj", "k_proj"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_only_its_own_tensors_train_and_a_checkpoint_brings_them_back(
    family, method, folder_of, tmp_path
) -> None:
    folder, rows = folder_of(family), batch()
    plain = answers(learner_of(folder, "head_only"), rows)
    learner = learner_of(folder, method)
    torch.testing.assert_close(answers(learner, rows), plain, atol=1e-4, rtol=1e-4)
    moved(learner)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    optimizer = build_optimizer(learner, LearningRates(0.1, 0.1, 0.1), 0.0)
    learner(rows).loss.backward()
    trained = dict(learner.method.named_parameters())
    for name, value in trained.items():
        assert value.dtype == torch.float32
        assert idle(name) or value.grad.abs().sum() > 0, name
    optimizer.step()
    own = {id(value) for value in trained.values()}
    for name, value in learner.backbone.named_parameters():
        if id(value) not in own:
            assert value.grad is None, name
            assert torch.equal(value, before[f"backbone.{name}"]), name
    expected = answers(learner, rows)
    assert (expected - plain).abs().max() > 1e-3
    state = learner.own_state()
    kept = {name.removeprefix("method.") for name in state if name.startswith("method.")}
    peft_names = get_peft_model_state_dict(learner.backbone.model)
    assert kept == {f"base_model.model.{name}" for name in peft_names}
    assert not any(name.startswith("backbone.model.") for name in state)
    counts = learner.counts()
    assert counts["adapter"] == sum(value.numel() for value in trained.values())
    assert counts["trainable"] == counts["adapter"] + counts["head"]
    assert counts["backbone"] == learner_of(folder, "head_only").counts()["backbone"]
    save_checkpoint(tmp_path, "best", "0123abcd", state, {})
    fresh = learner_of(folder, method, seed=1)
    load_tensors(fresh, load_checkpoint(tmp_path, "best", "0123abcd").tensors, tmp_path)
    assert torch.equal(answers(fresh, rows), expected)


def test_the_product_is_what_the_papers_say(folder_of) -> None:
    for method, scale in (("lora", 16 / 4), ("rslora", 16 / math.sqrt(4))):
        learner = learner_of(folder_of("bert"), method, r=4)
        moved(learner)
        layer = learner.backbone.model.get_submodule("encoder.layer.1.attention.self.query")
        inputs = torch.randn(2, 32)
        first, second = layer.lora_A.default.weight, layer.lora_B.default.weight
        product = inputs @ first.T @ second.T * scale
        torch.testing.assert_close(layer(inputs), layer.base_layer(inputs) + product)


def test_ia3_scales_keys_values_and_the_inner_feed_forward_units(folder_of) -> None:
    learner = learner_of(folder_of("bert"), "ia3")
    names = {
        name.split("layer.0.")[1]
        for name in dict(learner.method.named_parameters())
        if ".0." in name
    }
    assert names == {"attention.self.key.ia3_l", "attention.self.value.ia3_l", "output.dense.ia3_l"}
    moved(learner)
    layer = learner.backbone.model.get_submodule("encoder.layer.0.output.dense")
    inputs = torch.randn(2, 48)
    torch.testing.assert_close(layer(inputs), layer.base_layer(inputs * layer.ia3_l.default[0]))
    with_fewer = learner_of(
        folder_of("bert"), "ia3", target_modules=["value"], feedforward_modules=["value"]
    )
    layer = with_fewer.backbone.model.get_submodule("encoder.layer.0.attention.self.value")
    assert layer.is_feedforward
    assert with_fewer.counts()["adapter"] == 3 * 32


def test_first_values_belong_to_the_seed(folder_of) -> None:
    backbone = tiny.load(folder_of("bert"))
    state = torch.get_rng_state()
    tiny.make_method(backbone, "lora", None)
    assert torch.equal(torch.get_rng_state(), state)
    one, same, other = (learner_of(folder_of("bert"), "lora", seed=seed) for seed in (0, 0, 1))
    for value, equal, different in zip(
        one.method.parameters(), same.method.parameters(), other.method.parameters(), strict=True
    ):
        assert torch.equal(value, equal)
        assert torch.equal(value, different) == (not value.any())  # the second matrix is zero


def test_its_dropout_belongs_to_the_trial(folder_of) -> None:
    learner = learner_of(folder_of("bert"), "lora", lora_dropout=0.5)
    moved(learner)

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        draws = (RowDraws(seed // 10, 1, 0, 2, 9),)
        return learner(replace(batch(), draws=draws)).loss.item()

    assert loss(10) == loss(11) != loss(20)


def test_hooks_of_a_module_see_the_adapter_too(folder_of) -> None:
    """A family with an attention of its own records keys by a hook on the key layer."""
    learner = learner_of(folder_of("deberta-v2"), "lora")
    backbone, ids = learner.backbone, torch.tensor([[7, 8, 9]])
    before = backbone.read(ids)
    moved(learner)
    assert not torch.equal(backbone.read(ids)[0][0], before[0][0])


def test_copies_of_norms_refer_to_the_same_injection(folder_of) -> None:
    backbone = learner_of(folder_of("bert"), "ln_tuning").backbone
    norms = [m for m in backbone.model.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 2 * 7
    assert all(injection_of(norm)[0] is backbone.injection for norm in norms)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_weights_of_fewer_bits(method, dtype, folder_of) -> None:
    backbone = tiny.load(folder_of("llama"), dtype=dtype)
    plain = answers(tiny.make_learner(backbone, "head_only", None, pooling="last"), batch())
    learner = tiny.make_learner(backbone, method, None, pooling="last")
    assert all(value.dtype == torch.float32 for value in learner.method.parameters())
    torch.testing.assert_close(answers(learner, batch()), plain, atol=0.1, rtol=0.1)
    learner(batch()).loss.backward()
    assert all(value.grad.isfinite().all() for value in learner.method.parameters())


def test_held_weights_are_those_that_do_not_train(folder_of) -> None:
    learner = learner_of(folder_of("gpt2"), "dora")
    learner.backbone.hold_in(torch.bfloat16)
    layer = learner.backbone.model.get_submodule("h.0.attn.c_attn")
    assert layer.base_layer.weight.dtype == torch.bfloat16
    assert {value.dtype for value in learner.method.parameters()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        learner(batch()).loss.backward()
    assert layer.lora_B.default.weight.grad.any()


@pytest.fixture
def config(folder_of, tmp_path):
    data = tiny.write_rte(tmp_path / "rte")
    return tiny.write_config(
        tmp_path / "c.yaml", folder_of("bert"), data, method={"name": "lora"}, prompt_len=None
    )


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["method.target_modules=[qeury]"], "no module of the backbone is called so"),
        (["method.target_modules=[qeury]"], "did you mean query"),
        (["method.target_modules=[LayerNorm]"], "is a LayerNorm, which this method cannot change"),
        (["method.target_modules=query"], "write a list for the ends of names: [query]"),
        (["method.target_modules=(("], "is no regular expression"),
        (["method.target_modules=[]"], "must name at least one module"),
        (["method.target_modules=all_linear"], "did you mean all-linear?"),
        (
            [
                "method.name=ia3",
                "method.target_modules=[key]",
                "method.feedforward_modules=all-linear",
            ],
            "method.feedforward_modules: 'all-linear' matches no module's whole name",
        ),
        (["method.name=ln_tuning", "method.target_modules=all-linear"], "called LayerNorm"),
        (["method.r=33"], "33 is more than the rank of encoder.layer.0.attention.self.query"),
        (["method.r=33"], "use r of at most 32"),
        (["method.alpha=8"], "did you mean method.lora_alpha?"),
        (["method.rank=8"], "did you mean method.r?"),
        (["method.dropout=0.1"], "did you mean method.lora_dropout?"),
        (["method.targets=[query]"], "did you mean method.target_modules?"),
        (IA3, "are given together or not at all"),
        (
            [
                "method.name=ia3",
                "method.target_modules=[key]",
                "method.feedforward_modules=[dense]",
            ],
            "is not among target_modules",
        ),
        (["method.name=ln_tuning", "method.target_modules=[query]"], "is a Linear"),
        (["backbone.quantize=int4", "backbone.dtype=bf16"], "cannot stand beside int4 weights"),
        (["train.compile=true", "method.lora_dropout=0.1"], "compiled layers cannot draw it"),
        (["train.cache=memory", "backbone.dropout=off"], "lora changes the backbone"),
    ],
)
def test_what_does_not_fit_is_refused_before_weights_are_read(sets, said, config) -> None:
    assert said in " ".join(tiny.problems(config, *sets).split())


def test_weights_are_not_read_for_it(config, folder_of, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(nn.Module, "load_state_dict", None)
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    assert "query" in tiny.problems(config, "method.target_modules=[qeury]")
    assert tiny.resolved(config).config.train.warmup == 0.06


def test_without_the_package(config, monkeypatch) -> None:
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "peft" else find(name))
    said = tiny.problems(config)
    assert "lora needs peft, which is not installed" in said
    assert "pip install 'ptv2[peft]'" in said


def test_a_list_of_targets_has_one_order(config) -> None:
    one, other = (
        tiny.resolved(config, f"method.target_modules=[{names}]").config.model_dump()["method"]
        for names in ("value, query", "query, value, query")
    )
    assert one == other
    assert one["target_modules"] == ("query", "value")
