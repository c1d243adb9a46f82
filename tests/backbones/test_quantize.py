"""Frozen Linear layers as integers: near the originals, small, and transparent to gradients."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import lm
import pytest
import tiny
import torch
import transformers
from torch import nn

from ptv2_cli.backbones import load
from ptv2_cli.backbones import quantize as quantized
from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.backbones.quantize import QuantizedLinear, check_machine
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError, ConfigError
from ptv2_cli.rng import generator

CPU = torch.device("cpu")
pytest.importorskip("torchao")
CUDA = pytest.mark.skipif(
    not quantized._has_int4(torch.device("cuda")), reason="needs a CUDA device of 8.0 or newer"
)


def labelled(lengths=(7, 4)):
    batch = tiny.text_batch(lengths)
    return replace(batch, labels=torch.arange(batch.rows) % 3)


def learner_of(folder, checkpointed: bool = False, **section):
    backbone = tiny.load(folder, **section)
    if checkpointed:
        backbone.checkpoint_gradients()
    return tiny.make_learner(backbone, pooling="last", init={"normal": 1.0}).train()


def loss_and_gradient(learner):
    loss = learner(labelled()).loss
    loss.backward()
    return loss, learner.method.source.prompt.grad


def relative(found, expected) -> float:
    return float((found.float() - expected).norm() / expected.norm())


def put_dequantized(plain, small) -> None:
    """Give the plain model the dequantized weights of the quantized one."""
    for name, layer in small.model.named_modules():
        if isinstance(layer, QuantizedLinear):
            dense, own = layer.weight.dequantize(torch.float32), plain.model.get_submodule(name)
            turned = not isinstance(own, nn.Linear)  # GPT-2's Conv1D
            own.weight.data.copy_(dense.t() if turned else dense)


@pytest.mark.parametrize("family", sorted(tiny.CONFIGS))
def test_int8_is_the_model_of_its_rounded_weights_and_prompts_train(family, folder_of) -> None:
    plain, small = learner_of(folder_of(family)), learner_of(folder_of(family), quantize="int8")
    original, _ = loss_and_gradient(learner_of(folder_of(family)))
    put_dequantized(plain.backbone, small.backbone)
    loss, gradient = loss_and_gradient(plain)
    near, found = loss_and_gradient(small)
    torch.testing.assert_close(near, loss, rtol=1e-3, atol=1e-4)
    assert relative(found, gradient) < 0.01
    assert not torch.equal(near, original)  # it is quantized
    for part in found.split([site.width for site in small.method.sites.values()], dim=1):
        keys, values = part.chunk(2, dim=1)
        assert keys.abs().sum() > 0
        assert values.abs().sum() > 0


@pytest.mark.parametrize("family", sorted(tiny.CONFIGS))
def test_every_linear_layer_is_held_in_int8_and_nothing_else(family, folder_of) -> None:
    backbone = tiny.load(folder_of(family), quantize="int8")
    layers = [m for m in backbone.model.modules() if isinstance(m, QuantizedLinear)]
    assert len(layers) >= 4
    assert not [m for m in backbone.model.modules() if type(m) is nn.Linear]
    assert not [m for m in backbone.model.modules() if type(m).__name__ == "Conv1D"]
    assert {layer.weight.qdata.dtype for layer in layers} == {torch.int8}
    assert backbone.word_embeddings.dtype == torch.float32
    if backbone.pooler is not None:
        poolers = [m for m in backbone.pooler.modules() if isinstance(m, nn.Linear)]
        assert not [m for m in poolers if isinstance(m, QuantizedLinear)]


def test_parameters_are_counted_as_before(folder_of) -> None:
    plain, small = (tiny.load(folder_of("gpt2"), quantize=kind) for kind in (None, "int8"))
    counts = [tiny.make_learner(b, pooling="last").counts() for b in (plain, small)]
    assert counts[0] == counts[1]


def layer_of(rows: int = 24, columns: int = 16) -> tuple[nn.Linear, nn.Linear]:
    """A layer and its int8 twin."""
    torch.manual_seed(0)
    model, twin = (nn.Sequential(nn.Linear(columns, rows)).requires_grad_(False) for _ in "ab")
    twin.load_state_dict(model.state_dict())
    assert quantized.quantize(twin, "int8", CPU, "x") == 1
    return model[0], twin[0]


def test_gradient_is_that_of_the_dequantized_weight() -> None:
    _, layer = layer_of()
    weight = layer.weight.dequantize(torch.float32)
    states = torch.randn(3, 5, 16, requires_grad=True)
    upstream = torch.randn(3, 5, 24)
    output = layer(states)
    torch.testing.assert_close(output, states @ weight.t() + layer.bias)
    output.backward(upstream)
    torch.testing.assert_close(states.grad, upstream @ weight)


def test_weights_that_cannot_be_read_back_are_found_from_the_identity() -> None:
    """The method of int4 on a GPU, which works for int8 too."""
    _, layer = layer_of()
    found = quantized._times_identity(layer.weight, torch.float32)
    assert relative(found, layer.weight.dequantize(torch.float32)) < 0.005  # bf16's rounding


def test_autocast_computes_in_its_type() -> None:
    plain, layer = layer_of()
    states = torch.randn(2, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(states).dtype == plain(states).dtype == torch.bfloat16
    assert layer(states.bfloat16()).dtype == torch.bfloat16


def test_no_dequantized_weight_is_kept_for_the_backward_pass(folder_of) -> None:
    """A kept weight would take the memory that quantization saves."""
    learner = learner_of(folder_of("bert"), quantize="int8")
    weights = {
        (m.out_features, m.in_features)
        for m in learner.backbone.model.modules()
        if isinstance(m, QuantizedLinear)
    }
    kept: list[torch.Size] = []

    def keep(tensor):
        if tensor.is_floating_point():
            kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        learner(labelled()).loss.backward()
    assert kept
    assert not {tuple(shape) for shape in kept} & {*weights, *((k, n) for n, k in weights)}


def test_int8_bf16_and_gradient_checkpointing_together(folder_of) -> None:
    folder = folder_of("bert")
    plain = loss_and_gradient(learner_of(folder))
    small = loss_and_gradient(learner_of(folder, quantize="int8", dtype="bf16"))
    again = loss_and_gradient(learner_of(folder, True, quantize="int8", dtype="bf16"))
    torch.testing.assert_close(again, small)
    assert small[0].item() == pytest.approx(plain[0].item(), rel=0.02)
    assert relative(small[1], plain[1]) < 0.15


def test_a_model_without_a_layer_to_quantize_is_refused() -> None:
    with pytest.raises(BackboneError, match="has no Linear layer for int8"):
        quantized.quantize(nn.Sequential(nn.LayerNorm(4)), "int8", CPU, "x")


def refusal(kind: str, device: str = "cpu") -> str:
    with pytest.raises(ConfigError) as caught:
        check_machine(BackboneSection(name="x", quantize=kind), torch.device(device))
    return str(caught.value)


def test_int4_is_refused_off_the_gpu() -> None:
    text = refusal("int4")
    assert text.startswith("backbone.quantize: int4 needs a CUDA device of compute capability 8.0")
    assert "not cpu" in text
    assert "--set backbone.quantize=int8" in text
    check_machine(BackboneSection(name="x", quantize="int8"), CPU)


def test_int4_is_refused_before_weights_are_read(folder_of, monkeypatch) -> None:
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", None)
    with pytest.raises(ConfigError, match="int4 needs a CUDA device"):
        tiny.load(folder_of("bert"), quantize="int4", dtype="bf16")


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_without_torchao_the_command_that_brings_it(kind, monkeypatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torchao" else there(name)
    )
    text = refusal(kind)
    assert f"{kind} needs torchao, which is not installed" in text
    assert "pip install 'torchao" in text


@CUDA
def test_int4_on_a_gpu(tmp_path) -> None:
    """Near the original, and its gradients too; rounding to 4 bits alone gives 0.13 and 0.22."""
    folder = tiny.save_model(
        tmp_path, "bert", hidden_size=256, intermediate_size=512, initializer_range=0.05
    )
    from ptv2_cli.backbones.files.locate import locate
    from ptv2_cli.backbones.load import load_backbone
    from ptv2_cli.rng import generator

    device, results = torch.device("cuda"), []
    for quantize in (None, "int4"):
        section = BackboneSection(name=str(folder), dtype="bf16", quantize=quantize, dropout="off")
        located = locate(section, offline=True)
        backbone = load_backbone(located, section, generator(0, "init/backbone"), device).train()
        prompts = tiny.random_prompts(backbone, 3)
        leaves = [part.to(device).requires_grad_() for part in prompts.keys_values[0]]
        everywhere = {at: tuple(leaves) for at in prompts.keys_values}
        batch = tiny.text_batch([7, 4]).to(device)
        hidden = backbone.to(device)(batch, replace(prompts, keys_values=everywhere)).float()
        weights = torch.linspace(-1, 1, hidden.numel(), device=device).view_as(hidden)
        (hidden * weights).sum().backward()
        results.append((hidden.detach(), [leaf.grad for leaf in leaves]))
        layers = [m for m in backbone.model.modules() if isinstance(m, QuantizedLinear)]
        assert bool(layers) == (quantize is not None)
    (plain, wanted), (small, found) = results
    assert relative(small, plain) < 0.2
    for near, gradient in zip(found, wanted, strict=True):
        assert 0 < relative(near, gradient) < 0.4


RESIDENT = """
import os, sys
from pathlib import Path
import tiny, torch
from ptv2_cli.backbones import load
import transformers.models.llama.modeling_llama, torchao.quantization

os.environ["PTV2_CACHE"] = "off"  # the probe reads all weights; without it none is resident

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

before = resident()
backbone = tiny.load(sys.argv[1], dtype="bf16", quantize=sys.argv[2] or None)
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_the_replaced_weights_is_given_back(tmp_path) -> None:
    shape = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 8}
    folder = tiny.save_model(tmp_path, "llama", **shape)
    whole = transformers.AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
    whole.save_pretrained(folder)

    def pages(kind: str) -> int:
        done = forked.finish(str(folder), kind, code=RESIDENT)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    assert pages("int8") < 0.75 * pages("")


def test_the_language_model_head_is_taken_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quantized weights give other logits, and lie on the device: the check wants neither."""
    folder = lm.save_causal(tmp_path)
    order: list[str] = []
    for name in ("take_head", "LanguageModel", "quantize"):
        really = getattr(load, name)

        def told(*args: Any, name: str = name, really: Any = really) -> Any:
            order.append(name)
            return really(*args)

        monkeypatch.setattr(load, name, told)
    section = BackboneSection.model_validate({"name": str(folder), "quantize": "int8"})
    located = locate(section, offline=True)
    init = generator(0, "init/backbone")
    load.load_with_language(located, section, init, [5, 6])
    load.load_language_model(located, section, init)
    assert order == ["take_head", "quantize", "LanguageModel", "quantize"]
