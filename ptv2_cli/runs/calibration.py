"""Calibration of answers in words: a label's probability is divided by the model's prior for it.

A language model prefers some words whatever the text says, so that zero-shot answers may all be
one label. The prior is the mean probability of each label [C] over inputs that say nothing about
the answer: inputs without content (contextual calibration, Zhao et al. 2021, arXiv 2102.09690,
section 5), or the rows of the selection split (batch calibration, Zhou et al. 2023,
arXiv 2309.17249). A run keeps it as what its task tuned: a row is then answered alike
alone and among others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.scoring.scores import Array, Statistics
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.texts import encode_texts
from ptv2_cli.training.evaluate import Outputs, Predictor

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Texts without content, whose probabilities are averaged (Zhao et al. 2021, section 5)."""
PRIOR = "prior."
"""Stands before each label among the numbers that a run keeps."""
TINY = float(np.finfo(np.float32).tiny)
"""Least prior: a label that no input gives any probability."""


@dataclass(frozen=True)
class Calibration:
    """How the prior of a run is measured."""

    labels: tuple[str, ...]
    content_free: FeatureTable | None
    """Inputs without content; None: the prior is measured on the rows that are evaluated."""

    def prior(self, predictor: Predictor, outputs: Outputs) -> dict[str, float]:
        """The mean probability of each label; `outputs` are those of the rows evaluated."""
        if self.content_free is not None:
            outputs = predictor(self.content_free)
        stacked = np.stack([output["probabilities"] for output in outputs])
        means = stacked.mean(axis=0, dtype=np.float64)
        return {_key(label): float(mean) for label, mean in zip(self.labels, means, strict=True)}


def content_free_inputs(task: Task, encoder: Encoder) -> FeatureTable:
    """The task's template, with the run's demonstrations, around texts without content."""
    rows = [dict.fromkeys(task.columns, text) for text in CONTENT_FREE]
    return encode_texts(task.columns, rows, encoder).labelled([None] * len(rows))


def calibrated(outputs: Outputs, labels: Sequence[str], state: Mapping[str, float]) -> Outputs:
    """Outputs with probabilities proportional to p / prior, where `state` holds a prior.

    That is softmax(log p - log prior) over the labels.
    """
    if not labels or _key(labels[0]) not in state:
        return outputs
    prior = np.maximum(np.array([state[_key(label)] for label in labels]), TINY)
    return [
        {**output, "probabilities": _normalized(output["probabilities"] / prior)}
        for output in outputs
    ]


def _key(label: str) -> str:
    return PRIOR + label


def _normalized(weights: Statistics) -> Array:
    shares: Array = (weights / weights.sum()).astype(np.float32)
    return shares
