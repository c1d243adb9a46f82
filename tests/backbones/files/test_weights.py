"""Weights in fewer bits: which tensors they are, which stay fp32, and which train."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import tiny
import torch

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.registry import HEADS

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def labelled(lengths=(7, 4)):
    batch = tiny.text_batch(lengths)
    return replace(batch, labels=torch.arange(batch.rows) % 3)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_weights_are_held_in_the_type_and_the_pooler_in_fp32(dtype, folder_of) -> None:
    backbone = tiny.load(folder_of("bert"), dtype=dtype)
    assert {p.dtype for p in backbone.model.parameters()} == {TYPES[dtype]}
    assert {p.dtype for p in backbone.pooler.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("named", "held"),
    [
        ({"dtype": "bfloat16"}, "bf16"),
        ({"torch_dtype": "float16"}, "fp16"),
        ({"dtype": "float32"}, "fp32"),
        ({"dtype": "float64"}, "fp32"),
        ({"dtype": None}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_auto_is_what_config_json_names(named, held) -> None:
    section = BackboneSection(name="x", dtype="auto")
    assert section.held_dtype(named) == held
    assert BackboneSection(name="x", dtype="fp16").held_dtype(named) == "fp16"


def test_auto_loads_what_config_json_names(folder_of, tmp_path) -> None:
    folder = shutil.copytree(folder_of("bert"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    assert tiny.load(folder, dtype="auto").word_embeddings.dtype == torch.bfloat16
    assert tiny.load(folder).word_embeddings.dtype == torch.float32


METHODS = [("ptuning_v2", 4), ("prompt_tuning", 4), ("head_only", None)]


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("bf16", None), ("fp16", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
@pytest.mark.parametrize(("method", "length"), METHODS)
def test_what_trains_is_fp32_and_gets_gradient(method, length, dtype, precision, folder_of) -> None:
    learner = tiny.make_learner(
        tiny.load(folder_of("bert"), dtype=dtype), method, length, pooling="pooler"
    )
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        learner(labelled()).loss.backward()
    trained = [p for p in learner.parameters() if p.requires_grad]
    assert trained
    for parameter in trained:
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.grad.abs().sum() > 0


def test_a_missing_pooler_trains_in_fp32_over_bf16_states(tmp_path) -> None:
    folder = tiny.save_model(tmp_path, "bert", pooler=False)
    backbone = tiny.load(folder, dtype="bf16")
    learner = tiny.make_learner(backbone, pooling="pooler")
    learner(labelled()).loss.backward()
    weight = backbone.pooler.dense.weight
    assert weight.dtype == torch.float32
    assert weight.grad.abs().sum() > 0
    same = tiny.load(folder).pooler.dense.weight  # drawn alike, whatever the rest is held in
    assert torch.equal(weight, same)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("family", sorted(tiny.CONFIGS))
def test_every_family_runs_in_half(family, dtype, folder_of, backbone_of) -> None:
    whole, half = backbone_of(family), tiny.load(folder_of(family), dtype=dtype).eval()
    batch = tiny.text_batch([7, 4])
    with torch.no_grad():
        whole = whole(batch, tiny.random_prompts(half, 3))
        found = half(batch, tiny.random_prompts(half, 3)).float()
    assert (found - whole).norm() / whole.norm() < 0.05
    assert not torch.equal(found, whole)


def test_mean_pooling_counts_every_token_of_a_long_text() -> None:
    """bf16 cannot represent 301, so it would round the mean of such a long text."""
    head = HEADS.load("sequence")(tiny.head_context(pooling="mean"))
    hidden = torch.full((1, 301, 32), 3.0, dtype=torch.bfloat16)
    assert torch.equal(head.pool(hidden, tiny.text_batch([301])), torch.full((1, 32), 3.0))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "deberta"])
def test_weights_held_in_bf16_give_the_bits_that_autocast_gives(family, folder_of) -> None:
    """Not DeBERTa: transformers' model fails in bf16, it masks with the lowest fp32 value."""
    backbone = tiny.load(folder_of(family), dropout="off")
    batch, prompts = tiny.text_batch([9, 4]), tiny.random_prompts(backbone, 4)
    leaves = [part.requires_grad_() for pair in prompts.keys_values.values() for part in pair]

    def results():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = backbone(batch, prompts)
        return [hidden, *torch.autograd.grad(hidden.square().sum(), leaves)]

    before, bytes_before = results(), sum(p.nbytes for p in backbone.model.parameters())
    backbone.hold_in(torch.bfloat16)
    assert sum(p.nbytes for p in backbone.model.parameters()) < 0.9 * bytes_before
    assert backbone.word_embeddings.dtype == torch.float32
    for one, other in zip(results(), before, strict=True):
        assert torch.equal(one, other)
    assert backbone.read(batch.input_ids[:1])[0][0].dtype == torch.float32


def test_what_trains_is_not_held_in_bf16(folder_of, tmp_path) -> None:
    data = tiny.write_rte(tmp_path / "rte")
    for method, dtype in (("head_only", torch.bfloat16), ("finetune", torch.float32)):
        config = tiny.write_config(
            tmp_path / f"{method}.yaml", folder_of("bert"), data,
            method=method, prompt_len=None, train={"precision": "bf16", "epochs": 1},
        )  # fmt: skip
        session = tiny.opened(config, tmp_path / "runs")
        model = session.learner.backbone.model
        assert model.encoder.layer[0].output.dense.weight.dtype == dtype
        assert model.encoder.layer[0].output.LayerNorm.weight.dtype == torch.float32
