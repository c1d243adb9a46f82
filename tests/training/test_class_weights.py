"""Weighted classes in the loop: the loss and gradient are torch's own, however steps are cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.nn import functional

from ptv2_cli.inputs.batch import collate
from ptv2_cli.inputs.features import Feature
from ptv2_cli.multiplex import Sharing
from ptv2_cli.training.batches import BatchPlan
from ptv2_cli.training.evaluate import PredictionRequest, Predictor, predict
from ptv2_cli.training.events import EvalDone, StepDone
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import fit
from ptv2_cli.training.optim import LearningRates, build_optimizer, build_schedule

FolderOf = Callable[[str], Path]
WEIGHTS = (0.2, 1.0, 7.5)


def features(kind: str, count: int = 8) -> list[Feature]:
    source = torch.Generator().manual_seed(0)
    made = []
    for row in range(count):
        ids = torch.randint(5, 40, (3 + row % 5,), generator=source).tolist()
        tags = [-100 if at == 0 else (row * at) % 3 for at in range(len(ids))]
        label: Any = row * row % 3 if kind == "sequence" else tags
        made.append(Feature(row=row, input_ids=ids, label=label))
    return made


def lane(learner: Any, kind: str, size: int, accumulate: int, weights: Any = WEIGHTS) -> Lane:
    batches = BatchPlan(
        features(kind), size, accumulate, 3, pad_id=0, kind=kind, class_weights=weights
    )
    optimizer = build_optimizer(learner, LearningRates(0.1, 0.1, 0.1), 0.0)
    schedule = build_schedule("constant", 99, 0.0, 9)
    return Lane(learner, batches, optimizer, schedule, 1, 1000, tiny.CPU)


def first_steps(lanes: list[Lane]) -> dict[Lane, float]:
    def evaluate(due: Any) -> list[EvalDone]:
        return [EvalDone(0, 0.0, {}, 0.0, None) for _ in due]

    found = {}
    for events in fit(list(lanes), Sharing(), evaluate):
        found |= {at: float(event.loss) for at, event in events if isinstance(event, StepDone)}
    return found


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_any_cut_of_a_step_has_the_gradient_of_torch_s_own_loss(
    kind: str, folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), kind=kind)
    own = [*learner.own_parameters("method"), *learner.own_parameters("head")]
    whole = collate(features(kind), 0, kind)
    assert whole.labels is not None
    likely = learner.train()(whole).predictions["probabilities"].log().flatten(0, -2)
    labels = whole.labels.flatten()
    expected = functional.nll_loss(likely, labels, torch.tensor(WEIGHTS), ignore_index=-100)
    gradients = torch.autograd.grad(expected, own)
    wanted = float(expected.detach())
    # Of the uneven cuts one puts 3, 3 and 2 rows into a step.
    for size, accumulate in ((8, 1), (4, 2), (2, 4), (3, 3), (5, 2)):
        learner = tiny.make_learner(tiny.load(folder_of("bert")), kind=kind)
        own = [*learner.own_parameters("method"), *learner.own_parameters("head")]
        made = lane(learner, kind, size, accumulate)
        seen: list[torch.Tensor] = []
        monkeypatch.setattr(
            made.optimizer,
            "step",
            lambda seen=seen, own=own: seen.extend(p.grad.clone() for p in own),
        )
        (loss,) = first_steps([made]).values()
        assert loss == pytest.approx(wanted, rel=1e-5), (size, accumulate)
        for one, other in zip(seen, gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_equal_weights_are_none(folder_of: FolderOf) -> None:
    losses = []
    for weights in (None, (1.0, 1.0, 1.0), (4.0, 4.0, 4.0)):
        learner = tiny.make_learner(tiny.load(folder_of("bert")))
        losses += first_steps([lane(learner, "sequence", 3, 3, weights)]).values()
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)


def test_a_batch_whose_labels_all_weigh_nothing_moves_nothing(folder_of: FolderOf) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")))
    made = lane(learner, "sequence", 8, 1, (0.0, 0.0, 1.0))  # no row has the third label
    assert all(item.label != 2 for item in features("sequence"))
    assert first_steps([made]) == {made: 0.0}
    assert all(bool(value.isfinite().all()) for value in learner.own_state().values())


def test_lanes_with_other_weights_share_passes_and_lose_what_they_lose_alone(
    folder_of: FolderOf,
) -> None:
    backbone = tiny.load(folder_of("bert"))
    kinds = [None, WEIGHTS, (9.0, 1.0, 1.0)]

    def made(weights: Any) -> Lane:
        return lane(tiny.make_learner(backbone.view()), "sequence", 3, 3, weights)

    alone = [next(iter(first_steps([made(weights)]).values())) for weights in kinds]
    trainer = first_steps([made(weights) for weights in kinds])
    assert list(trainer.values()) == pytest.approx(alone, rel=1e-5)
    assert len(set(alone)) == 3


def test_the_validation_loss_is_weighted_as_the_train_loss(folder_of: FolderOf) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")))
    (expected,) = first_steps([lane(learner, "sequence", 8, 1)]).values()
    learner = tiny.make_learner(tiny.load(folder_of("bert")))
    made = Predictor(learner, "sequence", 0, 3, "fp32", tiny.CPU, WEIGHTS)
    (found,) = predict([PredictionRequest(made, features("sequence"))])
    assert found.loss == pytest.approx(expected, rel=1e-5)
