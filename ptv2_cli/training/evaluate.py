"""Run learners over the features of a split, longest batches first, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
from ptv2_cli.heads.base import Output
from ptv2_cli.inputs.batch import Batch, collate
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import Kind, kind_spec
from ptv2_cli.learner import Learner
from ptv2_cli.multiplex import Sharing
from ptv2_cli.scoring.scores import Array
from ptv2_cli.training.lane import Precision
from ptv2_cli.training.loop import autocast

Outputs = list[Mapping[str, Array]]
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Predictor:
    """How features become outputs; the same for training's evaluations and `ptv2 eval`."""

    learner: Learner
    kind: Kind
    pad_id: int
    batch_size: int
    precision: Precision
    device: torch.device
    class_weights: Sequence[float] | None = None
    """How much each class counts in the loss [C]; None: all alike."""

    def __call__(self, features: Sequence[Feature], tick: Tick | None = None) -> Outputs:
        """Head outputs of each feature, padding removed, in the order given.

        `tick` is told the number of features of each batch done; it may raise to stop.
        """
        (answered,) = predict([PredictionRequest(self, features, tick)])
        return answered.outputs


@dataclass(frozen=True)
class PredictionRequest:
    """What one predictor is to answer."""

    predictor: Predictor
    features: Sequence[Feature]
    tick: Tick | None = None
    """Told the number of its features done; it may raise to stop."""


@dataclass(frozen=True)
class Predicted:
    """What one predictor made of its features."""

    outputs: Outputs
    """Head outputs of each feature, padding removed, in the order given."""
    losses: Mapping[int, float]
    """Mean loss over the targets of each task's features; a task without gold answers has none."""
    loss: float | None
    """Mean loss over the targets of all features, None without any."""


def predict(
    wanted: Sequence[PredictionRequest], rows: int | None = None, lower: LowerStates | None = None
) -> list[Predicted]:
    """What each predictor makes of its features; several share passes, see `Sharing`.

    All are over one backbone, of one device and precision.

    Args:
        wanted: the predictors and their features.
        rows: most rows of a pass that several share, see `Sharing`; None: a batch of each.
        lower: where outputs of layers below the lowest prompt are kept.
    """
    sharing = Sharing(rows, lower)
    answers = [_Progress(item) for item in wanted]
    for item in wanted:
        item.predictor.learner.eval()
    with torch.inference_mode():
        while left := [answer for answer in answers if answer.waiting]:
            batches = [answer.take() for answer in left]
            learners = [answer.wanted.predictor.learner for answer in left]
            for places in sharing.passes(learners, [len(b.input_ids) for b in batches]):
                _answer(sharing, [left[at] for at in places], [batches[at] for at in places])
    return [answer.answered() for answer in answers]


class _Progress:
    """One predictor's features, longest first, and what has been made of them."""

    def __init__(self, wanted: PredictionRequest) -> None:
        self.wanted = wanted
        self.outputs: Outputs = [{} for _ in wanted.features]
        self.waiting = _by_length(wanted.features)
        self._taken: list[int] = []
        self._losses: dict[int, _Mean] = {}

    def take(self) -> Batch:
        """The next features, a batch of one task."""
        predictor, features = self.wanted.predictor, self.wanted.features
        task, next_ones = features[self.waiting[0]].task, self.waiting[: predictor.batch_size]
        self._taken = [at for at in next_ones if features[at].task == task]
        self.waiting = self.waiting[len(self._taken) :]
        chosen = [features[at] for at in self._taken]
        weights = predictor.class_weights
        return collate(chosen, predictor.pad_id, predictor.kind, weights).to(predictor.device)

    def put(self, batch: Batch, output: Output) -> None:
        """Note what was made of the batch taken last."""
        if output.loss is not None and batch.targets:
            self._losses.setdefault(batch.task, _Mean()).add(float(output.loss), batch.targets)
        arrays = {name: v.float().cpu().numpy() for name, v in output.predictions.items()}
        for row, at in enumerate(self._taken):
            kind = self.wanted.predictor.kind
            self.outputs[at] = unpadded(arrays, row, self.wanted.features[at], kind)
        if self.wanted.tick is not None:
            self.wanted.tick(len(self._taken))

    def answered(self) -> Predicted:
        """All of it, once nothing waits."""
        overall = _Mean()
        for mean in self._losses.values():
            overall.add(mean.value, mean.weight)
        losses = {task: mean.value for task, mean in sorted(self._losses.items())}
        return Predicted(self.outputs, losses, overall.value if losses else None)


@dataclass
class _Mean:
    """A mean over targets that comes batch by batch, each with as much weight as its targets."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float, weight: float) -> None:
        self.total += value * weight
        self.weight += weight

    @property
    def value(self) -> float:
        return self.total / self.weight


def _answer(sharing: Sharing, answers: Sequence[_Progress], batches: Sequence[Batch]) -> None:
    """One pass over batches of several predictors."""
    first = answers[0].wanted.predictor
    learners = [answer.wanted.predictor.learner for answer in answers]
    with autocast(first.precision, first.device):
        found = sharing.forward(learners, batches)
    for answer, batch, output in zip(answers, batches, found, strict=True):
        answer.put(batch, output)


def _by_length(features: Sequence[Feature]) -> list[int]:
    """Indices of features, task by task, longest first."""
    return sorted(
        range(len(features)),
        key=lambda index: (features[index].task, -len(features[index].input_ids)),
    )


def unpadded(
    arrays: Mapping[str, np.ndarray], row: int, feature: Feature, kind: Kind
) -> Mapping[str, Array]:
    """A feature's row of the batch: [C] or [] for an input, [choices] for a question, [T, ...]."""
    if kind_spec(kind).pooled and feature.choices is None:
        return {name: array[row] for name, array in arrays.items()}
    length = len(feature.input_ids if feature.choices is None else feature.choices)
    # Copied, so that the batch's padding is not kept alive.
    return {name: array[row, :length].copy() for name, array in arrays.items()}
