"""The loop with several lanes: passes and their size, whose turn it is, who leaves and joins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.inputs.features import Feature
from ptv2_cli.learner import Learner
from ptv2_cli.multiplex import Sharing
from ptv2_cli.training.batches import BatchPlan
from ptv2_cli.training.evaluate import PredictionRequest, Predictor, predict
from ptv2_cli.training.events import EvalDone, Event, StepDone, Stopped
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import fit
from ptv2_cli.training.optim import LearningRates, build_optimizer, build_schedule

FolderOf = Callable[[str], Path]


def features(count: int) -> list[Feature]:
    source = torch.Generator().manual_seed(0)
    made = []
    for row in range(count):
        ids = torch.randint(5, 40, (3 + row % 5,), generator=source).tolist()
        made.append(Feature(row=row, input_ids=ids, label=row % 3))
    return made


def learner(backbone: Backbone, length: int, seed: int = 0) -> Learner:
    """A learner over a view of the backbone."""
    return tiny.make_learner(backbone.view(), prompt_len=length, seed=seed)


def lane(backbone: Backbone, length: int, size: int, steps: int = 3, **fields: Any) -> Lane:
    accumulate, seed = fields.pop("accumulate", 1), fields.pop("seed", 3)
    lr = fields.pop("lr", 0.1)
    made = learner(backbone, length)
    batches = BatchPlan(features(12), size, accumulate, seed, pad_id=0, kind="sequence")
    optimizer = build_optimizer(made, LearningRates(lr, lr, lr), 0.0)
    schedule = build_schedule("constant", 99, 0.0, 9)
    fields = {"eval_every": 1000, "device": tiny.CPU, **fields}
    return Lane(made, batches, optimizer, schedule, steps, **fields)


def evaluate(lanes: Sequence[Lane]) -> list[EvalDone]:
    return [EvalDone(lane.step, 0.0, {}, 0.0, None) for lane in lanes]


def carried(
    lanes: list[Lane], sharing: Sharing | None = None, evaluating: Any = evaluate
) -> dict[Lane, list[Event]]:
    found: dict[Lane, list[Event]] = {each: [] for each in lanes}
    for events in fit(lanes, sharing or Sharing(), evaluating):
        for at, event in events:
            found[at].append(event)
    return found


def losses(events: Sequence[Event]) -> list[float]:
    return [float(event.loss) for event in events if isinstance(event, StepDone)]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every pass through a backbone."""
    found: list[int] = []
    really = Backbone.forward

    def forward(self: Backbone, batch: Any, *rest: Any) -> Tensor:
        found.append(len(batch.input_ids))
        return really(self, batch, *rest)

    monkeypatch.setattr(Backbone, "forward", forward)
    return found


def test_each_loses_what_it_loses_alone(folder_of: FolderOf) -> None:
    backbone = tiny.load(folder_of("bert"))
    kinds: list[dict[str, Any]] = [
        {"length": 3, "size": 4},
        {"length": 1, "size": 5, "accumulate": 2, "steps": 7, "clip": 0.1},
        {"length": 6, "size": 12, "seed": 4, "steps": 2, "lr": 0.3},
    ]
    alone = [carried([lane(backbone, **kind)]) for kind in kinds]
    trainer = carried([lane(backbone, **kind) for kind in kinds])
    for single, (_, events) in zip(alone, trainer.items(), strict=True):
        ((_, expected),) = single.items()
        assert losses(events) == pytest.approx(losses(expected), abs=1e-5)
        assert [type(event) for event in events] == [type(event) for event in expected]
        assert [e.rows for e in events if isinstance(e, StepDone)] == [
            e.rows for e in expected if isinstance(e, StepDone)
        ]


def test_passes_are_as_few_as_fit(folder_of: FolderOf, passes: list[int]) -> None:
    backbone = tiny.load(folder_of("bert"))
    sizes = (4, 4, 3, 6)
    for limit, expected in (
        (None, [17]),
        (17, [17]),
        (16, [11, 6]),
        (8, [8, 3, 6]),
        (10, [8, 9]),
        (7, [7, 4, 6]),  # the third beside the first: the second does not fit
        (2, [4, 4, 3, 6]),  # a lane's own batch is never cut
    ):
        lanes = [lane(backbone, 2, size, steps=1) for size in sizes]
        passes.clear()
        carried(lanes, Sharing(limit))
        assert passes == expected, limit


def test_an_evaluation_comes_for_all_that_are_due(folder_of: FolderOf) -> None:
    backbone = tiny.load(folder_of("bert"))
    lanes = [
        lane(backbone, 2, 4, steps=4, eval_every=2),
        lane(backbone, 3, 4, steps=6, eval_every=3),
        lane(backbone, 4, 4, steps=4, eval_every=4),
    ]
    every = list(lanes)
    asked: list[list[int]] = []

    def evaluating(due: Sequence[Lane]) -> list[EvalDone]:
        asked.append([every.index(one) for one in due])
        return evaluate(due)

    found = carried(lanes, evaluating=evaluating)
    assert asked == [[0], [1], [0, 2], [1]]
    steps = [[e.step for e in found[one] if isinstance(e, EvalDone)] for one in every]
    assert steps == [[2, 4], [3, 6], [4]]
    assert lanes == []
    assert all(isinstance(found[one][-1], Stopped) for one in every)


def test_who_leaves_and_who_joins(folder_of: FolderOf, passes: list[int]) -> None:
    backbone = tiny.load(folder_of("bert"))
    first, second, third = (lane(backbone, 2, size, steps=4) for size in (4, 3, 2))
    lanes = [first, second]
    passes.clear()  # those of the probe
    taken: list[tuple[int, ...]] = []
    for events in fit(lanes, Sharing(), evaluate):
        done = [event for _, event in events if isinstance(event, StepDone)]
        if done:
            taken.append(tuple(event.step for event in done))
        if taken[-1:] == [(2, 2)] and third not in lanes:
            lanes.remove(first)
            lanes.append(third)
    assert passes == [7, 7, 5, 5, 2, 2]
    assert taken == [(1, 1), (2, 2), (3, 1), (4, 2), (3,), (4,)]
    assert first.step == 2


def test_one_that_is_not_finite_leaves_the_others_as_they_are(folder_of: FolderOf) -> None:
    backbone = tiny.load(folder_of("bert"))
    bad = lane(backbone, 2, 4, steps=6, eval_every=2)
    with torch.no_grad():
        for parameter in bad.learner.own_parameters("method"):
            parameter.fill_(float("nan"))
    good = lane(backbone, 3, 4, steps=6, eval_every=2)
    found = carried([bad, good])
    assert [type(event) for event in found[bad]] == [StepDone, StepDone, Stopped]
    assert found[bad][-1].reason == "diverged"  # type: ignore[union-attr]
    alone = carried([lane(backbone, 3, 4, steps=6, eval_every=2)])
    ((_, expected),) = alone.items()
    assert losses(found[good]) == pytest.approx(losses(expected), abs=1e-6)


def test_the_backbone_itself_is_not_moved(folder_of: FolderOf) -> None:
    backbone = tiny.load(folder_of("bert"))
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    carried([lane(backbone, length, 4) for length in (2, 3)])
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


@pytest.mark.parametrize("limit", [None, 6, 64])
def test_predictions_share_passes(
    limit: int | None, folder_of: FolderOf, passes: list[int]
) -> None:
    backbone = tiny.load(folder_of("bert"))
    counts, sizes = (9, 12, 4), (4, 8, 8)
    wanted = []
    for at, (count, size) in enumerate(zip(counts, sizes, strict=True)):
        made = learner(backbone, at + 1, seed=at)
        predictor = Predictor(made, "sequence", 0, size, "fp32", tiny.CPU)
        told: list[int] = []
        wanted.append(PredictionRequest(predictor, features(count), told.append))
    passes.clear()  # those of the probes
    trainer = [answered.outputs for answered in predict(wanted, limit)]
    shared = list(passes)
    assert sum(shared) == sum(counts)
    if limit is None:
        # 4 + 8 + 4, 4 + 4, 1 of 9
        assert shared == [16, 8, 1]
    else:
        assert max(shared) <= max(limit, *sizes)  # a batch of one's own is not cut
    for item, count, found in zip(wanted, counts, trainer, strict=True):
        told = item.tick.__self__  # type: ignore[union-attr]
        assert sum(told) == count
        alone = item.predictor(item.features)
        for one, other in zip(alone, found, strict=True):
            assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-5)
