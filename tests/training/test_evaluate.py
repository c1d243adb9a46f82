"""Prediction over a split: order, padding, and independence of the batch size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from ptv2_cli.inputs.batch import collate
from ptv2_cli.inputs.features import Feature
from ptv2_cli.training.evaluate import PredictionRequest, Predictor, predict

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
    trainer = predictor(backbone, kind, 4)(features(), ticks.append)
    assert ticks == [4, 3]
    for length, one, other in zip(LENGTHS, alone, trainer, strict=True):
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
    trainer = predictor(backbone, "choice", 3)(questions)
    for group, one, other in zip(groups, alone, trainer, strict=True):
        assert other["probabilities"].shape == (len(group),)
        assert other["probabilities"].sum() == pytest.approx(1)
        np.testing.assert_allclose(other["probabilities"], one["probabilities"], atol=1e-5)
    assert np.ptp(trainer[1]["probabilities"]) > 1e-3


def gold(kind: str, length: int, row: int) -> object:
    if kind == "sequence":
        return row % 3
    if kind == "span":
        return (0, length - 1)
    return [-100 if at % 2 else (row + at) % 3 for at in range(length)]


@pytest.mark.parametrize("kind", ["sequence", "token", "span"])
def test_the_loss_is_the_mean_over_targets_whatever_the_batches(kind, folder_of) -> None:
    backbone = tiny.load(folder_of("bert"))
    labelled = [
        replace(item, label=gold(kind, len(item.input_ids), item.row)) for item in features()
    ]
    found = []
    for size in (1, 3, 7):
        (answered,) = predict([PredictionRequest(predictor(backbone, kind, size), labelled)])
        assert answered.losses == {0: answered.loss}
        found.append(answered.loss)
    assert found[1:] == pytest.approx([found[0]] * 2, rel=1e-5)
    made = predictor(backbone, kind, 7)
    with torch.no_grad():
        whole = made.learner.eval()(collate(labelled, 0, kind)).loss
    assert found[0] == pytest.approx(float(whole), rel=1e-5)


def test_no_loss_without_gold_answers_and_one_for_each_task(folder_of) -> None:
    backbone = tiny.load(folder_of("bert"))
    (none,) = predict([PredictionRequest(predictor(backbone, "sequence", 2), features())])
    assert (none.loss, none.losses) == (None, {})
    mixed = [
        replace(item, task=item.row % 2, label=item.row % 3 if item.row else None)
        for item in features()
    ]
    made = predictor(backbone, "sequence", 2)
    (found,) = predict([PredictionRequest(made, mixed)])
    alone = [
        predict([PredictionRequest(made, [x for x in mixed if x.task == at])])[0].loss
        for at in (0, 1)
    ]
    assert found.losses == pytest.approx(dict(enumerate(alone)), rel=1e-5)
    # Three labelled rows of the first task (one has no label), three of the second.
    assert found.loss == pytest.approx((3 * alone[0] + 3 * alone[1]) / 6, rel=1e-5)
