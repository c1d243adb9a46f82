"""Prefix-Tuning+: what it trains, where, and what keeps away from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch

from ptv2_cli.backbones.layer_split import LayerSplit
from ptv2_cli.methods.prefix_tuning_plus import PrefixTuningPlus


@pytest.mark.parametrize(("family", "heads"), [("bert", 4), ("llama", 2), ("albert", 4)])
def test_a_matrix_for_each_key_and_value_head(family: str, heads: int, backbone_of: Any) -> None:
    method = tiny.make_method(backbone_of(family), "prefix_tuning_plus", None)
    assert method.counts() == {"prompt": 3 * heads * 8 * 8, "reparam": 0}
    shapes = {tuple(memory.shape) for memory in method().memories.values()}
    assert shapes == {(1, heads, 8, 8)}


def test_all_matrices_learn_from_the_first_step_on(folder_of: Any) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bart")), "prefix_tuning_plus", None)
    batch = tiny.text_batch([7, 4, 5])
    learner(replace(batch, labels=torch.arange(batch.rows) % 3)).loss.backward()
    assert all(memory.grad.abs().max() > 0 for memory in learner.method.memories)
    assert all(parameter.grad is None for parameter in learner.backbone.parameters())
    assert len(learner.method.memories) == 3 + 2 + 2


def test_layers_below_the_lowest_matrix_compute_the_same(backbone_of: Any) -> None:
    backbone = backbone_of("bert")
    method = tiny.make_method(backbone, "prefix_tuning_plus", None, layers="last:1")
    assert method.lowest == 2
    assert LayerSplit(backbone).depth(backbone, method()) == 2
    spec = PrefixTuningPlus(layers="last:1")
    assert spec.unprompted_layers({"self": 3}) == 2
    assert "in 1 of 3 layers" in spec.describe(None, {"self": 3})
    ((key, what),) = PrefixTuningPlus(layers="4").problems(None, {"self": 3})
    assert key == "layers"
    assert "layer 4 does not exist" in what
