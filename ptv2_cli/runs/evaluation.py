"""Evaluation of a split: from features to predictions and scores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
from ptv2_cli.data.rows import Row
from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.inputs.features import Feature
from ptv2_cli.runs.calibration import Calibration, calibrated
from ptv2_cli.scoring.scores import Prediction, Scores
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.multi import MultiTask
from ptv2_cli.training.evaluate import PredictionRequest, PredictionResult, Predictor, Tick, predict


@dataclass(frozen=True)
class Evaluation:
    """A split's predictions and scores, and what was tuned on it."""

    predictions: list[Prediction]
    scores: Scores
    state: dict[str, float]
    seconds: float
    loss: float | None = None
    """Mean over the targets (rows, words, windows of a question); None without gold answers."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """The same of each of several tasks, by its name."""

    @property
    def collapsed(self) -> str | None:
        """The one label, number or tag that every row was given; None if there are two or more."""
        seen: set[str] = set()
        for prediction in self.predictions:
            seen.update(_answers(prediction))
            if len(seen) > 1:
                return None
        # Spans are free text: two rows with one and the same answer are no class.
        first = self.predictions[0]
        spans = isinstance(first, Mapping) and ("answer" in first or "text" in first)
        return None if spans and seen != {""} else seen.pop()


def _answers(prediction: Prediction) -> list[str]:
    """The label, number, answer or tags that a row was given."""
    if not isinstance(prediction, Mapping):
        return [str(prediction)]
    if "tags" in prediction:
        return list(prediction["tags"])
    answer = next(
        (prediction[key] for key in ("label", "labels", "answer", "text") if key in prediction),
        None,
    )
    return [str(answer)]


@dataclass(frozen=True)
class EvaluationRequest:
    """Rows to predict and score, with their task and predictor."""

    task: Task
    predictor: Predictor
    rows: Sequence[Row]
    features: Sequence[Feature]
    state: dict[str, float] | None = None
    """What the task tuned before; None: it tunes on these rows."""
    tick: Tick | None = None
    """Gets the number of features of each batch that is done; it may raise to stop."""
    calibration: Calibration | None = None
    """How the prior is measured if it is not in `state`; None: answers are not calibrated."""


def evaluate(
    requests: Sequence[EvaluationRequest],
    rows: int | None = None,
    lower: LowerStates | None = None,
    group: ProcessGroup = ALONE,
) -> list[Evaluation]:
    """Predict and score; several over one backbone share forward passes, see `predict`.

    The seconds of each are its share of the time.
    """
    began = time.perf_counter()
    wanted = [PredictionRequest(item.predictor, item.features, item.tick) for item in requests]
    predicted = predict(wanted, rows, lower, group)
    evaluations = [_scored(*pair) for pair in zip(requests, predicted, strict=True)]
    seconds = (time.perf_counter() - began) / len(requests)
    return [replace(evaluation, seconds=seconds) for evaluation in evaluations]


def _scored(request: EvaluationRequest, predicted: PredictionResult) -> Evaluation:
    task, rows, features, state = request.task, request.rows, request.features, request.state
    prior: dict[str, float] = {}
    if state is None and request.calibration is not None:
        prior = request.calibration.prior(request.predictor, predicted.outputs)
    outputs = calibrated(predicted.outputs, task.labels, state or prior)
    predictions = task.decode(rows, features, outputs, state or {})
    if state is None:
        state = task.tune(rows, predictions)
        if state:
            predictions = task.decode(rows, features, outputs, state)
        state = {**state, **prior}
    names = task.names if isinstance(task, MultiTask) else ()
    losses = {name: predicted.losses[at] for at, name in enumerate(names) if at in predicted.losses}
    scores = task.score(rows, predictions)
    return Evaluation(predictions, scores, state, 0.0, predicted.loss, losses)
