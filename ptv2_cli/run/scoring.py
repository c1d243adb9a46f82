"""From the features of a split to prediction lines and scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ptv2_cli.tasks.base import Feature, Prediction, Row, Scores, Task
from ptv2_cli.train.evaluate import Predictor

_ANSWERS = ("label", "prediction", "answer")
"""Where a prediction line has its one answer."""


@dataclass(frozen=True)
class Evaluation:
    """A split's predictions and scores, and what was tuned on it."""

    predictions: list[Prediction]
    scores: Scores
    state: dict[str, float]
    seconds: float

    @property
    def collapsed(self) -> str | None:
        """The one label, number or tag that every row was given; None if there are two or more."""
        seen: set[str] = set()
        for line in self.predictions:
            answer = next((line[key] for key in _ANSWERS if key in line), None)
            seen.update(line["tags"] if "tags" in line else [str(answer)])
            if len(seen) > 1:
                return None
        # Spans are free text: two rows with one and the same answer are no class.
        answers = "answer" in self.predictions[0]
        return None if answers and seen != {""} else seen.pop()


def evaluate(
    task: Task,
    predictor: Predictor,
    rows: Sequence[Row],
    features: Sequence[Feature],
    state: dict[str, float] | None = None,
    tick: Callable[[int], None] | None = None,
) -> Evaluation:
    """Predict and score; without `state`, what the task tunes is tuned on these rows."""
    began = time.perf_counter()
    outputs = predictor(features, tick)
    predictions = task.decode(rows, features, outputs, state or {})
    if state is None:
        state = task.tune(rows, predictions)
        if state:
            predictions = task.decode(rows, features, outputs, state)
    scores = task.score(rows, predictions)
    return Evaluation(predictions, scores, state, time.perf_counter() - began)
