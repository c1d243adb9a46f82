"""Metrics of classes that a config asks for by name, beside those that a task always gives."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ptv2_cli.scoring.resampling import sampled_rows
from ptv2_cli.scoring.scores import Statistics

AUROC = "auroc"
NAMED = (
    *("mcc", AUROC, "balanced_accuracy"),
    *("f1_macro", "f1_micro", "f1_weighted"),
    *("precision_macro", "recall_macro", "precision_weighted", "recall_weighted"),
)
ALWAYS = ("accuracy",)
_CELLS_AT_ONCE = 4_000_000


def named_scores(
    names: Sequence[str], truth: Sequence[int], guess: Sequence[int], probabilities: Statistics
) -> dict[str, float]:
    """Values by scikit-learn, without those that the rows leave undefined.

    Averages are over the classes that occur as gold or prediction; balanced_accuracy over those
    that occur as gold.

    Args:
        names: of NAMED.
        truth: gold classes [n].
        guess: predicted classes [n].
        probabilities: [n, C].
    """
    from sklearn import metrics

    values: dict[str, float] = {}
    with warnings.catch_warnings():
        # It warns of classes that were never predicted; the value 0 says as much.
        warnings.simplefilter("ignore")
        for name in names:
            figure, _, average = name.partition("_")
            if name == AUROC:
                value = auroc(truth, probabilities)
                values |= {} if value is None else {AUROC: value}
            elif name == "mcc":
                values[name] = float(metrics.matthews_corrcoef(truth, guess))
            elif name == "balanced_accuracy":
                values[name] = float(metrics.balanced_accuracy_score(truth, guess))
            else:
                score: Any = getattr(metrics, f"{figure}_score")
                values[name] = float(score(truth, guess, average=average, zero_division=0))
    return values


def auroc(truth: Sequence[int], probabilities: Statistics) -> float | None:
    """Area under the ROC curve; None where a class has no row.

    Of two classes that of the second one's probability; of more the mean of each class against
    the rest (Fawcett 2006, Pattern Recognition Letters 27, section 9.2, without weights).
    """
    from sklearn.metrics import roc_auc_score

    gold = np.asarray(truth)
    if missing_classes(gold, probabilities.shape[1]):
        return None
    classes = _asked(probabilities)
    return float(np.mean([roc_auc_score(gold == at, probabilities[:, at]) for at in classes]))


def auroc_error(truth: Sequence[int], probabilities: Statistics) -> float | None:
    """Its standard error by the bootstrap over rows, as `resampled_errors` has it.

    Draws that leave out a class have no value and do not count; None with fewer than two values.
    """
    gold = np.asarray(truth)
    weights = sampled_rows(len(gold)).astype(float)
    values = np.mean(
        [_weighted(gold == at, probabilities[:, at], weights) for at in _asked(probabilities)],
        axis=0,
    )
    known = values[np.isfinite(values)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def missing_classes(truth: Any, classes: int) -> list[int]:
    """The classes that no row has."""
    return sorted(set(range(classes)) - set(map(int, truth)))


def _asked(probabilities: Statistics) -> list[int]:
    """The classes whose curves count: of two the second."""
    count = probabilities.shape[1]
    return [1] if count == 2 else list(range(count))


def _weighted(positive: Any, scores: Statistics, weights: Statistics) -> Statistics:
    """Areas [D] of one class against the rest, rows weighted [D, n]; NaN without either side.

    The share of pairs of a positive and a negative row that the scores put in this order, equal
    scores counting half (Mann and Whitney 1947).
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    at_once = max(1, _CELLS_AT_ONCE // len(scores))
    parts = []
    for first in range(0, len(weights), at_once):
        own = weights[first : first + at_once, order]
        above = np.add.reduceat(own * positive[order], starts, axis=1)
        below = np.add.reduceat(own * ~positive[order], starts, axis=1)
        pairs = above * (np.cumsum(below, axis=1) - below / 2)
        with np.errstate(invalid="ignore"):
            parts.append(pairs.sum(axis=1) / (above.sum(axis=1) * below.sum(axis=1)))
    return np.concatenate(parts)
