"""Prediction over a split: order, padding, and independence of the batch size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny

from ptv2_cli.tasks.base import Feature
from ptv2_cli.train.evaluate import Predictor

LENGTHS = [5, 9, 3, 7, 9, 4, 6]


def features() -> list[Feature]:
    return [
        Feature(row=row, input_ids=[5 + (row * 7 + at) % 35 for at in range(length)])
        for row, length in enumerate(LENGTHS)
    ]


def predictor(backbone, kind: str, size: int) -> Predictor:
    learner = tiny.make_learner(backbone, kind=kind)
    return Predictor(learner, kind, 0, size, "fp32", tiny.CPU)


@pytest.mark.parametrize(
    ("kind", "shape"), [("sequence", (3,)), ("token", ("n", 3)), ("span", ("n",))]
)
def test_outputs_come_in_order_and_without_padding(kind, shape, folder_of) -> None:
    backbone = tiny.load(folder_of("bert"))
    alone = predictor(backbone, kind, 1)(features())
    ticks: list[int] = []
    together = predictor(backbone, kind, 4)(features(), ticks.append)
    assert ticks == [4, 3]
    for length, one, other in zip(LENGTHS, alone, together, strict=True):
        for name, value in one.items():
            assert other[name].shape == tuple(length if n == "n" else n for n in shape)
            assert np.isfinite(other[name]).all()
            np.testing.assert_allclose(other[name], value, atol=1e-5)


def test_evaluation_is_without_dropout_and_gradient(folder_of) -> None:
    backbone = tiny.load(folder_of("bert"), dropout=0.5)
    found = predictor(backbone, "token", 4)
    one, other = (found(features()) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first["probabilities"], second["probabilities"])


def test_a_question_has_the_probabilities_of_its_own_choices(folder_of) -> None:
    inputs = features()
    groups = [inputs[:2], inputs[2:5], inputs[5:]]
    questions = [
        replace(max(group, key=lambda item: item.tokens), row=row, choices=tuple(group))
        for row, group in enumerate(groups)
    ]
    backbone = tiny.load(folder_of("bert"))
    alone = predictor(backbone, "choice", 1)(questions)
    together = predictor(backbone, "choice", 3)(questions)
    for group, one, other in zip(groups, alone, together, strict=True):
        assert other["probabilities"].shape == (len(group),)
        assert other["probabilities"].sum() == pytest.approx(1)
        np.testing.assert_allclose(other["probabilities"], one["probabilities"], atol=1e-5)
    assert np.ptp(together[1]["probabilities"]) > 1e-3
