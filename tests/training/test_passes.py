"""Which learners go through the backbone together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
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
