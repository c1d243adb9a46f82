"""Rows that share a sequence come out as rows by themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from ptv2_cli.backbones import backbone as module
from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.packing import pack
from ptv2_cli.backbones.sites import PlainBatch, Prompts
from ptv2_cli.inputs.batch import collate
from ptv2_cli.inputs.features import Feature

PACKED = [
    name
    for name, family in FAMILIES.items()
    if family.causal and family.registry and family.takes_positions
]
LENGTHS = (7, 4, 6, 3, 5)


def batch_of(lengths: tuple[int, ...] = LENGTHS) -> PlainBatch:
    rows = tiny.text_batch(lengths, high=390)
    return PlainBatch(rows.input_ids, rows.attention_mask, lengths=lengths)


@pytest.fixture(scope="module", params=PACKED)
def backbone(request: Any, tmp_path_factory: Any) -> Backbone:
    return tiny.load(tiny.save_model(tmp_path_factory.mktemp("model"), request.param))


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each pass was packed into."""
    found = []

    def counted(*args: Any) -> Any:
        found.append(pack(*args))
        return found[-1]

    monkeypatch.setattr(module, "pack", counted)
    return found


@pytest.mark.parametrize("offset", [3, 0], ids=["shift", "keep"])
def test_states_and_gradients(backbone: Backbone, packings: list[Any], offset: int) -> None:
    packed = batch_of()
    states, gradients = [], []
    for batch in (packed, replace(packed, lengths=None)):
        prompts = tiny.random_prompts(backbone, 3, offset=offset)
        leaves = [leaf.requires_grad_() for pair in prompts.keys_values.values() for leaf in pair]
        hidden = backbone(batch, prompts) * batch.attention_mask[..., None]
        hidden.square().sum().backward()
        states.append(hidden.detach())
        gradients.append([leaf.grad for leaf in leaves])
    assert len(packings) == 1
    assert packings[0].count < len(LENGTHS)
    torch.testing.assert_close(states[0], states[1], atol=1e-5, rtol=1e-4)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_states_without_a_prompt(backbone: Backbone, packings: list[Any]) -> None:
    packed = batch_of()
    with torch.no_grad():
        one, other = (
            backbone(batch) * batch.attention_mask[..., None]
            for batch in (packed, replace(packed, lengths=None))
        )
    assert packings[0] is not None
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("what", [{"softmax": "separate"}, None], ids=["separate", "plus"])
def test_what_is_the_same_for_all_rows(
    backbone: Backbone, packings: list[Any], what: dict[str, str] | None
) -> None:
    name = "ptuning_v2" if what else "prefix_tuning_plus"
    method = tiny.make_method(backbone, name, 3, **(what or {})).eval()
    packed = batch_of()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.5)
        one, other, bare = (
            backbone(batch, prompts) * batch.attention_mask[..., None]
            for batch, prompts in (
                (packed, method()),
                (replace(packed, lengths=None), method()),
                (packed, Prompts()),
            )
        )
    assert packings[0] is not None
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert (one - bare).abs().max() > 0.01


def test_what_is_not_packed(tmp_path: Path, packings: list[Any]) -> None:
    gpt2 = tiny.save_model(tmp_path / "gpt2", "gpt2")
    dropping = tiny.load(gpt2, dropout=None)
    dropping(batch_of())
    own = tiny.load(gpt2)
    own(batch_of(), tiny.random_prompts(own, 3, rows=len(LENGTHS)))  # each row has its own
    own(batch_of(), replace(tiny.random_prompts(own, 3, rows=2), rows=(2, 3)))
    own(batch_of(), tiny.make_method(own, "ptuning_v2", 3, gates="apt")())  # read each row's state
    mistral = tiny.load(tiny.save_model(tmp_path / "mistral", "mistral", sliding_window=6))
    mistral(batch_of())
    bert = tiny.load(tiny.save_model(tmp_path / "bert", "bert"))
    bert(tiny.text_batch(LENGTHS))
    with_module = tiny.load(gpt2)
    with_module.model.h[0].attn.c_attn.drop = torch.nn.Dropout(0.1)  # as a method may add
    with_module(batch_of())
    assert packings == []
    dropping.eval()(batch_of())
    assert len(packings) == 1


def test_batches_know_their_lengths() -> None:
    features = [Feature(row=0, input_ids=[5, 6, 7]), Feature(row=1, input_ids=[8])]
    batch = collate(features, 0, "sequence")
    assert batch.lengths == (3, 1)
    assert replace(batch, features=None).lengths is None


def test_equal_rows_are_left_as_they_are() -> None:
    assert pack([16] * 8, 20, 1e6, 64) is None


def test_every_token_has_one_place() -> None:
    lengths = np.random.default_rng(0).integers(3, 30, 17)
    packing = pack(lengths.tolist(), 4, 1e6, 64)
    assert packing is not None
    taken = np.zeros((packing.count, packing.width), np.int64)
    for row, length in enumerate(lengths):
        start = packing.starts[row]
        taken[packing.sequences[row], start : start + length] += 1
    assert taken.max() == 1
    assert taken.sum() == lengths.sum()
    assert packing.count * packing.width < len(lengths) * lengths.max()
