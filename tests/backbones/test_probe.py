"""The probe: models in which prompts would have no effect are an error."""

from __future__ import annotations

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModel

from ptv2_cli.backbones import families
from ptv2_cli.backbones.families import Family
from ptv2_cli.backbones.probe import find_sites, probe
from ptv2_cli.errors import BackboneError

SILENT = ["deberta", "deberta-v2", "mpnet"]


@pytest.mark.parametrize("family", SILENT)
def test_models_that_never_ask_for_prompts_are_refused(family, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(families.FAMILIES, family, Family(family, "absolute", "cls"))
    sizes = {**tiny.CONFIGS["bert"], "max_position_embeddings": 64}
    model = AutoModel.from_config(AutoConfig.for_model(family, **sizes))
    model.save_pretrained(tmp_path)
    with pytest.raises(BackboneError) as caught:
        tiny.load(tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    # A model without the registry may be refused by transformers' own loading too.
    assert "would have no effect" in message or "cannot be loaded" in message


def test_a_model_whose_attention_is_bypassed_is_refused(folder_of) -> None:
    backbone = tiny.load(folder_of("bert"))
    layer = backbone.model.encoder.layer[1].attention.self
    layer.forward = lambda hidden, *rest, **more: (hidden, None)
    with pytest.raises(BackboneError, match="half: 2 of its 3 layers read prompts"):
        probe(backbone, "half")
    for each in backbone.model.encoder.layer:
        each.attention.self.forward = layer.forward
    with pytest.raises(BackboneError, match="backbone deaf: its attention never reads"):
        probe(backbone, "deaf")


def test_prompts_without_gradient_are_refused(folder_of) -> None:
    backbone = tiny.load(folder_of("bert"))
    own = backbone.model.encoder.layer[1].attention.self
    plain = own.forward
    own.forward = lambda *args, **kwargs: (plain(*args, **kwargs)[0].detach(), None)
    for each in backbone.model.encoder.layer:  # no residual around the detached layer
        each.attention.output.forward = lambda states, inputs: states
    with pytest.raises(BackboneError, match=r"prompt keys at .*layer.0.* get no gradient"):
        probe(backbone, "cut")


def test_sites_say_what_they_are(backbone_of) -> None:
    sites = backbone_of("llama").sites
    assert [(s.heads, s.head_size, s.causal, s.stack) for s in sites] == [(2, 8, True, "self")] * 3
    assert [s.module for s in sites] == [f"layers.{i}.self_attn" for i in range(3)]
    assert [s.causal for s in backbone_of("bert").sites] == [False] * 3


def test_probe_leaves_no_trace(folder_of) -> None:
    backbone = tiny.load(folder_of("bert"))
    before = torch.get_rng_state()
    sites = find_sites(backbone)
    probe(backbone, "again")
    assert backbone.sites == sites
    assert backbone.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


def test_loading_leaves_the_global_generator_alone(folder_of) -> None:
    before = torch.get_rng_state()
    tiny.load(folder_of("bert"))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_is_set_before_the_model_is_built(folder_of) -> None:
    def probabilities(value) -> list[float]:
        backbone = tiny.load(folder_of("bert"), dropout=value)
        modules = backbone.model.modules()
        return [backbone.dropout, *(m.p for m in modules if isinstance(m, torch.nn.Dropout))]

    assert set(probabilities(None)) == {0.1}
    assert set(probabilities("off")) == {0.0}
    assert set(probabilities(0.3)) == {0.3, 0.1}  # attention keeps its own
