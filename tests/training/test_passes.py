"""Which learners go through the backbone together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch

from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
from ptv2_cli.inputs.batch import collate
from ptv2_cli.inputs.features import Feature
from ptv2_cli.learner import Learner
from ptv2_cli.multiplex import Sharing

Made = Callable[..., Learner]


@pytest.fixture
def made(folder_of: Callable[[str], Path]) -> Made:
    backbone = tiny.load(folder_of("bert"))

    def make(method: str = "ptuning_v2", **options: object) -> Learner:
        return tiny.make_learner(backbone.view(), method=method, **options)

    return make


def test_as_many_as_fit(made: Made) -> None:
    learners = [made() for _ in range(5)]
    assert list(Sharing().passes(learners, [8] * 5)) == [[0, 1, 2, 3, 4]]
    assert list(Sharing(rows=20).passes(learners, [8, 8, 8, 4, 50])) == [[0, 1, 3], [2], [4]]


def test_prompts_in_the_same_layers_stand_beside_each_other(made: Made) -> None:
    learners = [made(), made("head_only"), made(layers="last:1"), made(), made(layers="3")]
    assert list(Sharing(rows=16).passes(learners, [8] * 5)) == [[0, 3], [2, 4], [1]]
    assert list(Sharing().passes(learners, [8] * 5)) == [[0, 3, 2, 4, 1]]


def test_kept_outputs_are_entered_at_one_layer(made: Made) -> None:
    learners = [made(), made("head_only"), made(layers="last:1"), made("prompt_tuning")]
    keeping = Sharing(lower=LowerStates("epoch", takers=4))
    assert list(keeping.passes(learners, [8] * 4)) == [[0, 3], [2], [1]]


@pytest.mark.parametrize("method", ["ptuning_v2", "prompt_tuning"])
def test_each_head_reads_the_width_of_its_own_batch(made: Made, method: str) -> None:
    learners = [
        made(method, kind="token", seed=1).eval(),
        made(method, kind="token", seed=2).eval(),
    ]
    batches = [
        collate([Feature(0, [2, 5, 6, 7, 3], label=[0, 1, 2, 0, 1])], 0, "token"),
        collate([Feature(0, [2, 8, 3], label=[1, 0, 2])], 0, "token"),
    ]
    with torch.no_grad():
        outputs = Sharing().forward(learners, batches)
        alone = [learner(batch) for learner, batch in zip(learners, batches, strict=True)]
    for output, expected, width in zip(outputs, alone, (5, 3), strict=True):
        assert output.predictions["probabilities"].shape[:2] == (1, width)
        torch.testing.assert_close(output.predictions, expected.predictions)
        torch.testing.assert_close(output.loss, expected.loss)
