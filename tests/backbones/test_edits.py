"""What a method makes of modules' outputs: the hooks, the rows of several owners, the layers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from ptv2_cli.backbones.compiling import compile_layers
from ptv2_cli.backbones.edits import chained
from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.injection import combined, injection_of
from ptv2_cli.backbones.layer_parts import layer_parts
from ptv2_cli.backbones.layer_split import LayerSplit
from ptv2_cli.backbones.sites import Edit, Prompts
from ptv2_cli.inputs.batch import join_batches

BackboneOf = Callable[[str], Any]
LENGTHS = [9, 4]
BERT = ("attention.output.dense", "intermediate.dense", "output.dense")
LLAMA = ("self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
GLM = ("self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
NEOX = ("attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
PARTS = {
    "albert": ("attention.dense", "ffn", "ffn_output"),
    "distilbert": ("attention.out_lin", "ffn.lin1", "ffn.lin2"),
    "mpnet": ("attention.attn.o", "intermediate.dense", "output.dense"),
    "modernbert": ("attn.Wo", "mlp.Wi", "mlp.Wo"),
    "gpt2": ("attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
    "opt": ("self_attn.out_proj", "fc1", "fc2"),
    "bloom": ("self_attention.dense", *NEOX[1:]),
    "gpt_neox": NEOX,
    "glm": GLM,
    "glm4": GLM,
    **dict.fromkeys(("eurobert", "llama", "mistral", "qwen2", "qwen3"), LLAMA),
    "t5": ("EncDecAttention.o", "DenseReluDense.wi", "DenseReluDense.wo"),
    "mt5": ("EncDecAttention.o", "DenseReluDense.wi_0", "DenseReluDense.wo"),
    "bart": ("encoder_attn.out_proj", "fc1", "fc2"),
}
"""The parts of the last layer, as the model's code names them; of others, as BERT does."""


def factor(module: nn.Module) -> Tensor:
    """A factor for each value of a module's output [O]."""
    weight: Any = module.weight
    wide = weight.shape[1] if type(module).__name__ == "Conv1D" else weight.shape[0]
    return torch.linspace(0.5, 1.5, wide)


def times(factors: Tensor, plus: float = 0.1) -> Edit:
    """An edit that a module by itself could not learn: it reads the input too."""
    return lambda inputs, output: output * factors + plus * inputs.mean(dim=-1, keepdim=True)


def edits_of(backbone: Any, **options: float) -> dict[str, Edit]:
    """An edit of every part of every layer."""
    modules = {injection_of(module)[1]: module for module in backbone.model.modules()}
    names = [
        name
        for part in layer_parts(backbone)
        for name in (part.attention_output, *(part.feed_forward or ()))
    ]
    return {name: times(factor(modules[name]), **options) for name in names}


@contextmanager
def rewritten(backbone: Any, edits: dict[str, Edit]) -> Iterator[None]:
    """The same by hand: each module's forward, replaced."""

    def replaced(module: nn.Module, inputs: Tensor) -> Tensor:
        output = type(module).forward(module, inputs)
        return edits[injection_of(module)[1]](inputs, output)

    edited = [module for module in backbone.model.modules() if injection_of(module)[1] in edits]
    for module in edited:
        module.forward = MethodType(replaced, module)
    try:
        yield
    finally:
        for module in edited:
            del module.forward


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_where_the_models_code_has_them(family: str, backbone_of: BackboneOf) -> None:
    parts = layer_parts(backbone_of(family))
    attention, *ends = PARTS.get(family, BERT)
    assert len(parts) == len(backbone_of(family).sites)
    last = parts[-1]
    assert last.feed_forward is not None
    assert last.attention_output.endswith(f".{attention}")
    assert [
        name.rpartition(f".{end}")[1:] for name, end in zip(last.feed_forward, ends, strict=True)
    ] == [(f".{end}", "") for end in ends]
    assert all(part.width == 32 for part in parts)
    assert [part.feed_forward is None for part in parts] == [
        part.site.stack == "decoder" for part in parts
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_edits_are_as_a_rewritten_module(family: str, backbone_of: BackboneOf) -> None:
    """With prompts before the text, with padding; afterwards the backbone is as it was."""
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    prompts = tiny.random_prompts(backbone, 3)
    edits = edits_of(backbone)
    with torch.no_grad():
        before = backbone(batch, prompts)
        with rewritten(backbone, edits):
            expected = backbone(batch, prompts)
        edited = backbone(batch, Prompts(keys_values=prompts.keys_values, edits=edits))
        after = backbone(batch, prompts)
    assert torch.equal(edited, expected)
    assert (edited - before).abs().max() > 0.01
    assert torch.equal(after, before)


@pytest.mark.parametrize("family", ["bert", "opt", "mpnet", "gpt2", "t5", "mt5", "bart", "albert"])
def test_owners_in_one_pass_are_as_alone(family: str, backbone_of: BackboneOf) -> None:
    """One with prompts and edits everywhere, one with other edits at one module, one bare."""
    backbone = backbone_of(family)
    batches = [
        tiny.text_batch(lengths, seed=at) for at, lengths in enumerate(([9, 4], [6], [5, 3, 2]))
    ]
    edits = edits_of(backbone)
    first = next(iter(edits))
    owners = [
        tiny.random_prompts(backbone, 3, edits=edits),
        Prompts(edits={first: times(torch.full((32,), -1.0))}),
        Prompts(),
    ]
    rows = [len(batch.input_ids) for batch in batches]
    with torch.no_grad():
        alone = [backbone(batch, own) for batch, own in zip(batches, owners, strict=True)]
        joined = backbone(join_batches(batches, 0), combined(owners, rows))
    for batch, expected, together in zip(batches, alone, torch.split(joined, rows), strict=True):
        kept = 1 if backbone.decodes else batch.attention_mask[..., None]
        together = together[:, : expected.shape[1]]
        torch.testing.assert_close(together * kept, expected * kept, atol=3e-5, rtol=1e-4)


def test_rows_that_an_output_lacks_are_refused() -> None:
    """DeBERTa projects a table of relative positions, which belongs to no text."""
    edit = combined([Prompts(edits={"m": times(torch.ones(4))}), Prompts()], [2, 1]).edits or {}
    with pytest.raises(ValueError, match="rows"):
        edit["m"](torch.ones(1, 8, 4), torch.ones(1, 8, 4))


def test_recomputed_layers_are_edited_too(folder_of: Any) -> None:
    def gradients(checkpointed: bool) -> Tensor:
        backbone = tiny.load(folder_of("bert")).train()
        if checkpointed:
            backbone.checkpoint_gradients()
        edits = edits_of(backbone)
        name = next(iter(edits))
        factors = torch.linspace(0.5, 1.5, 32).requires_grad_()
        calls: list[Tensor] = []

        def counted(inputs: Tensor, output: Tensor) -> Tensor:
            calls.append(output)
            return times(factors)(inputs, output)

        states = backbone(tiny.text_batch(LENGTHS), Prompts(edits={**edits, name: counted}))
        states.sin().sum().backward()
        assert len(calls) == 1 + checkpointed
        return factors.grad

    once, again = gradients(False), gradients(True)
    assert once.abs().max() > 0
    torch.testing.assert_close(again, once)


def test_layers_below_the_lowest_edit_can_be_kept(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("bert")
    split = LayerSplit(backbone)
    edits = edits_of(backbone)
    depths = {f"encoder.layer.{layer}.output.dense": layer for layer in range(3)}
    for name, depth in depths.items():
        assert split.depth(backbone, Prompts(edits={name: edits[name]})) == depth
    assert split.depth(backbone, Prompts(edits={"embeddings.LayerNorm": edits[name]})) == 0
    assert split.depth(backbone, Prompts()) == 3


def test_compiled_layers_call_the_edits(folder_of: Any) -> None:
    backbone, batch = tiny.load(folder_of("bert")).eval(), tiny.text_batch(LENGTHS)
    edits = edits_of(backbone)
    with torch.no_grad():
        expected = backbone(batch, Prompts(edits=edits))
    other = tiny.load(folder_of("bert")).eval()
    edits = edits_of(other)
    compile_layers(other, backend="eager")
    with torch.no_grad():
        plain = other(batch)
        assert torch.equal(other(batch, Prompts(edits=edits)), expected)
        assert torch.equal(other(batch), plain)


def test_edits_of_two_methods_follow_each_other() -> None:
    one: Edit = lambda inputs, output: output + 1  # noqa: E731
    two: Edit = lambda inputs, output: output * 3  # noqa: E731
    both = chained({"a": one, "b": one}, {"b": two, "c": two})
    given = torch.ones(1)
    assert {name: float(edit(given, given)) for name, edit in both.items()} == {
        "a": 2.0, "b": 6.0, "c": 3.0
    }  # fmt: skip


def test_a_dropped_decoder_is_freed(folder_of: Any) -> None:
    backbone = tiny.load(folder_of("t5"))
    decoder = weakref.ref(backbone.model.decoder)
    backbone.drop_decoder()
    gc.collect()
    assert decoder() is None
    assert all("decoder" not in part.attention_output for part in layer_parts(backbone))
