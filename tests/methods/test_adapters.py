"""Houlsby and parallel adapters, against layers that are written out here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from ptv2_cli.backbones import backbone as backbone_module
from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.backbones.packing import pack
from ptv2_cli.backbones.sites import PlainBatch, Prompts

BackboneOf = Callable[[str], Any]
LENGTHS = [9, 4]
ADAPTERS = ["houlsby_adapter", "parallel_adapter"]
FEED_FORWARD = {"llama": "mlp", "gpt_neox": "mlp", "gpt2": "mlp", "t5": "DenseReluDense"}
"""Families whose feed-forward part is one module, and its name."""


def opened(backbone: Any, name: str, **options: Any) -> Any:
    """A method whose values are far from those at its start."""
    options = options if name == "bitfit" else {"bottleneck": 5, **options}
    method = tiny.make_method(backbone, name, None, **options)
    draws = torch.Generator().manual_seed(3)
    for parameter in method.parameters():
        with torch.no_grad():
            parameter.normal_(0.0, 0.3, generator=draws)
    return method


def plain(adapter: Any, function: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """up(activation(down(h))) in as many words."""
    inner = function(states @ adapter.down.weight.mT + adapter.down.bias)
    return inner @ adapter.up.weight.mT + adapter.up.bias


@contextmanager
def replaced(modules: dict[nn.Module, Callable[..., Tensor]]) -> Iterator[None]:
    for module, forward in modules.items():
        module.forward = MethodType(forward, module)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


@pytest.mark.parametrize("family", FAMILIES)
def test_houlsby_adapters_stand_behind_both_parts(family: str, backbone_of: BackboneOf) -> None:
    """In every layer, also of a decoder, and with prompts before the text."""
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    method = opened(backbone, "houlsby_adapter")
    assert len(method.names) == {"albert": 2}.get(
        family, sum(1 + (part.feed_forward is not None) for part in method.parts)
    )
    own = dict(zip(method.names, method.adapters, strict=True))

    def behind(module: nn.Module, inputs: Tensor) -> Tensor:
        output = type(module).forward(module, inputs)
        adapter = own[injection_of(module)[1]]
        return output + plain(adapter, nn.functional.gelu, output)

    modules = {m: behind for m in backbone.model.modules() if injection_of(m)[1] in own}
    keys_values = tiny.random_prompts(backbone, 3).keys_values
    with torch.no_grad():
        with replaced(modules):
            expected = backbone(batch, Prompts(keys_values=keys_values))
        found = backbone(batch, Prompts(keys_values=keys_values, edits=method().edits))
        bare = backbone(batch, Prompts(keys_values=keys_values))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert (found - bare).abs().max() > 0.1


@pytest.mark.parametrize("family", FEED_FORWARD)
def test_parallel_adapters_stand_beside_the_feed_forward_part(
    family: str, backbone_of: BackboneOf
) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    method = opened(backbone, "parallel_adapter", scale=3.0)
    first = {ends[0]: adapter for ends, adapter in zip(method.names, method.adapters, strict=True)}

    def beside(module: nn.Module, hidden_states: Tensor) -> Tensor:
        adapter = next(
            first[name]
            for name in (injection_of(inner)[1] for inner in module.modules())
            if name in first
        )
        output = type(module).forward(module, hidden_states)
        return output + 3.0 * plain(adapter, torch.relu, hidden_states)

    end = f".{FEED_FORWARD[family]}"
    modules = {m: beside for m in backbone.model.modules() if injection_of(m)[1].endswith(end)}
    assert modules
    with torch.no_grad():
        with replaced(modules):
            expected = backbone(batch)
        found, bare = backbone(batch, method()), backbone(batch)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert (found - bare).abs().max() > 0.1


def test_parallel_adapters_in_bert_read_what_the_part_reads(backbone_of: BackboneOf) -> None:
    """BERT's feed-forward part is two modules, and its norm comes last."""
    backbone, batch = backbone_of("bert"), tiny.text_batch(LENGTHS)
    method = opened(backbone, "parallel_adapter")
    own = dict(zip(backbone.model.encoder.layer, method.adapters, strict=True))

    def feed_forward(layer: Any, states: Tensor) -> Tensor:
        inner = layer.output.dense(layer.intermediate(states))
        return layer.output.LayerNorm(inner + 4.0 * plain(own[layer], torch.relu, states) + states)

    layers = list(own)
    for layer in layers:
        layer.feed_forward_chunk = MethodType(feed_forward, layer)
    try:
        with torch.no_grad():
            expected = backbone(batch)
    finally:
        for layer in layers:
            del layer.feed_forward_chunk
    with torch.no_grad():
        torch.testing.assert_close(backbone(batch, method()), expected, atol=2e-5, rtol=1e-4)


def test_mam_in_bert_is_a_prefix_and_a_scaled_parallel_adapter(backbone_of: BackboneOf) -> None:
    """A whole pass of BERT with MAM, in plain matrix products (arXiv 2110.04366)."""
    backbone, batch = backbone_of("bert"), tiny.text_batch(LENGTHS)
    mam = tiny.make_method(backbone, "mam", 3, bottleneck=5, scale=2.0).eval()
    draws = torch.Generator().manual_seed(3)
    for parameter in mam.parameters():
        with torch.no_grad():
            parameter.normal_(0.0, 0.3, generator=draws)
    prompts, model = mam(), backbone.model
    adapters = next(part for part in mam.methods if hasattr(part, "adapters")).adapters
    rows, length = batch.input_ids.shape
    hidden_words = batch.attention_mask[:, None, None, :] == 0
    hidden = torch.cat([torch.zeros(rows, 1, 1, 3, dtype=torch.bool), hidden_words], -1)
    positions = torch.arange(3, 3 + length)  # the text's begin behind the prefix

    def heads(states: Tensor) -> Tensor:
        return states.view(rows, length, 4, 8).transpose(1, 2)

    with torch.no_grad():
        # The bare pass last: hooks keep the edits of the pass before.
        found, bare = backbone(batch, prompts), backbone(batch)
        embeddings = model.embeddings
        states = embeddings.LayerNorm(
            embeddings.word_embeddings(batch.input_ids)
            + embeddings.position_embeddings(positions)
            + embeddings.token_type_embeddings.weight[0]
        )
        for at, (layer, adapter) in enumerate(zip(model.encoder.layer, adapters, strict=True)):
            own, (prefix_keys, prefix_values) = layer.attention.self, prompts.keys_values[at]
            keys = torch.cat([prefix_keys.expand(rows, -1, -1, -1), heads(own.key(states))], 2)
            values = torch.cat(
                [prefix_values.expand(rows, -1, -1, -1), heads(own.value(states))], 2
            )
            scores = heads(own.query(states)) @ keys.mT / 8**0.5
            mixed = scores.masked_fill(hidden, -1e30).softmax(-1) @ values
            ends = layer.attention.output
            joined = ends.dense(mixed.transpose(1, 2).reshape(rows, length, 32))
            states = ends.LayerNorm(joined + states)
            inner = layer.output.dense(nn.functional.gelu(layer.intermediate.dense(states)))
            beside = 2.0 * plain(adapter, torch.relu, states)
            states = layer.output.LayerNorm(inner + beside + states)
    words = batch.attention_mask == 1
    torch.testing.assert_close(found[words], states[words], atol=2e-5, rtol=1e-4)
    assert (found - bare)[words].abs().max() > 0.1


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_adapter_gets_gradient(name: str, family: str, backbone_of: BackboneOf) -> None:
    backbone = backbone_of(family)
    method = opened(backbone, name)
    states = backbone(tiny.text_batch(LENGTHS), method())
    draws = torch.Generator().manual_seed(1)
    (states * torch.randn(states.shape, generator=draws)).sum().backward()
    for adapter in method.adapters:
        assert adapter.down.weight.grad.abs().max() > 0
        assert adapter.up.weight.grad.abs().max() > 0


def test_the_first_step_begins_near_the_backbone(backbone_of: BackboneOf) -> None:
    """Parallel adapters begin at the backbone itself, Houlsby's as near as the paper has it."""
    backbone, batch = backbone_of("bert"), tiny.text_batch(LENGTHS)
    with torch.no_grad():
        bare = backbone(batch)
        assert torch.equal(backbone(batch, tiny.make_method(backbone, ADAPTERS[1], None)()), bare)
        houlsby = tiny.make_method(backbone, ADAPTERS[0], None)
        near = backbone(batch, houlsby())
    assert 0 < (near - bare).abs().max() < 0.2
    drawn = torch.cat([adapter.down.weight.flatten() for adapter in houlsby.adapters])
    assert drawn.abs().max() <= 0.02
    assert 0.008 < drawn.std() < 0.0095  # of N(0, 0.01), cut off at two standard deviations


def test_layers_choose_where_adapters_stand(backbone_of: BackboneOf) -> None:
    method = tiny.make_method(backbone_of("bert"), "houlsby_adapter", None, layers="2-3")
    assert method.lowest == 1
    assert {name.split(".")[2] for name in method.names} == {"1", "2"}
    both = tiny.make_method(backbone_of("bart"), "parallel_adapter", None, layers="first:1")
    assert both.names == [
        ("encoder.layers.0.fc1", "encoder.layers.0.fc2"),
        ("decoder.layers.0.fc1", "decoder.layers.0.fc2"),
    ]


@pytest.mark.parametrize("name", ADAPTERS)
def test_rows_that_share_a_sequence_are_as_alone(
    name: str, backbone_of: BackboneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters act on each token alone, so that short rows of a causal model can be packed."""
    backbone = backbone_of("llama").eval()
    packed: list[Any] = []

    def noting(*args: Any) -> Any:
        packed.append(pack(*args))
        return packed[-1]

    monkeypatch.setattr(backbone_module, "pack", noting)
    lengths = (7, 4, 6, 3, 5)
    rows = tiny.text_batch(lengths, high=390)
    edits = opened(backbone, name)()
    with torch.no_grad():
        one = PlainBatch(rows.input_ids, rows.attention_mask, lengths=lengths)
        together = backbone(one, edits)
        alone = backbone(PlainBatch(rows.input_ids, rows.attention_mask), edits)
    assert packed[0] is not None
    kept = rows.attention_mask[..., None]
    torch.testing.assert_close(together * kept, alone * kept, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*ADAPTERS, "bitfit"])
def test_integer_weights(name: str, folder_of: Any) -> None:
    """Modules that quantizing has replaced (GPT-2's) are found too."""
    pytest.importorskip("torchao")
    backbone = tiny.load(folder_of("gpt2"), quantize="int8").eval()
    method = opened(backbone, name)
    with torch.no_grad():
        batch = tiny.text_batch(LENGTHS)
        assert (backbone(batch, method()) - backbone(batch)).abs().max() > 0.1


def test_counts(backbone_of: BackboneOf) -> None:
    method = tiny.make_method(backbone_of("bert"), "houlsby_adapter", None, bottleneck=5)
    assert method.counts() == {
        "prompt": 0,
        "reparam": 0,
        "adapter": 3 * 2 * (32 * 5 + 5 + 5 * 32 + 32),
    }
