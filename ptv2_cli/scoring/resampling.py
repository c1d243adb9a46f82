"""Scores from counts, and how far they would move with another sample of rows."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ptv2_cli.scoring.scores import Statistics

DRAWS = 500
_SEED = zlib.crc32(b"standard error")


def ratio(top: Statistics, bottom: Statistics) -> Statistics:
    """`top / bottom`, 0 where nothing was counted (the convention of seqeval and sklearn)."""
    out = np.zeros(np.shape(top))
    np.divide(top, bottom, out=out, where=np.asarray(bottom) > 0)
    return out


def precision_recall_f1(
    correct: Statistics, predicted: Statistics, gold: Statistics
) -> tuple[Statistics, Statistics, Statistics]:
    """Precision, recall and their harmonic mean 2c / (p + g) from counts of any one shape."""
    return ratio(correct, predicted), ratio(correct, gold), ratio(2 * correct, predicted + gold)


def class_scores(confusion: Statistics) -> dict[str, Statistics]:
    """Scores from confusion matrices [..., C gold, C predicted].

    class_precision, class_recall, class_f1 are [..., C], all others [...]. Means (`*_macro`) are
    over the classes that occur as gold or prediction, as sklearn's `f1_score(average="macro")`
    has it, which SuperGLUE uses for CB; balanced_accuracy is the mean recall of the classes that
    occur as gold. `*_weighted` weighs classes by their gold rows. mcc is the correlation of gold
    and predicted classes (Gorodkin 2004, Computational Biology and Chemistry 28), 0 where one of
    them is constant. f1_micro of rows with one label each is their accuracy.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    gold = confusion.sum(axis=-1).astype(float)
    predicted = confusion.sum(axis=-2).astype(float)
    precision, recall, f1 = precision_recall_f1(hits, predicted, gold)
    rows = gold.sum(axis=-1)
    present = ((gold + predicted) > 0).sum(axis=-1).astype(float)
    in_gold = (gold > 0).sum(axis=-1).astype(float)
    right = hits.sum(axis=-1)
    covariance = right * rows - (gold * predicted).sum(axis=-1)
    spread = (rows**2 - (gold**2).sum(axis=-1)) * (rows**2 - (predicted**2).sum(axis=-1))
    return {
        "accuracy": ratio(right, rows),
        "f1_macro": ratio(f1.sum(axis=-1), present),
        "f1_micro": ratio(right, rows),
        "f1_weighted": ratio((f1 * gold).sum(axis=-1), rows),
        "precision_macro": ratio(precision.sum(axis=-1), present),
        "recall_macro": ratio(recall.sum(axis=-1), present),
        "precision_weighted": ratio((precision * gold).sum(axis=-1), rows),
        "recall_weighted": ratio((recall * gold).sum(axis=-1), rows),
        "balanced_accuracy": ratio(recall.sum(axis=-1), in_gold),
        "mcc": ratio(covariance, np.sqrt(spread)),
        "class_precision": precision,
        "class_recall": recall,
        "class_f1": f1,
    }


def class_detail(
    names: Sequence[str], confusion: Statistics
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, int]]]:
    """Precision, recall, F1 and support of each class, and the counts of [C gold, C predicted]."""
    scores = class_scores(confusion)
    figures = ("precision", "recall", "f1")
    classes = {
        name: {
            **{figure: float(scores[f"class_{figure}"][index]) for figure in figures},
            "support": int(confusion[index].sum()),
        }
        for index, name in enumerate(names)
    }
    cells = {
        name: dict(zip(names, map(int, row), strict=True))
        for name, row in zip(names, confusion, strict=True)
    }
    return classes, cells


def mean_error(values: Statistics) -> float:
    """Standard error of a mean over n rows: sample standard deviation / sqrt(n); 0 for n = 1."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def sampled_rows(count: int) -> npt.NDArray[np.int64]:
    """How often each of `count` rows is in each of DRAWS samples of as many rows [DRAWS, count]."""
    generator = np.random.default_rng(_SEED)
    return generator.multinomial(count, np.full(count, 1 / count), size=DRAWS)


def resampled_errors(
    statistics: Statistics, metrics: Callable[[Statistics], dict[str, Statistics]]
) -> dict[str, float]:
    """Standard errors by the bootstrap over rows (Efron 1979), with a fixed seed.

    Each of DRAWS samples takes n rows with replacement, which is a multinomial weight per
    row; a metric's error is the standard deviation of its values over the samples.
    """
    values = metrics(sampled_rows(len(statistics)) @ statistics)
    return {name: float(np.std(found, ddof=1)) for name, found in values.items()}


FLAT = 1e-12
"""Share of a variance that rounding leaves of one that is zero."""


def moments(truth: Statistics, guess: Statistics) -> Statistics:
    """Per row [n, 11] the terms of both correlations: 1, and x, y, xx, yy, xy twice.

    First of the values, centred, then of their ranks. Ranks are those among all n rows: totals
    over all rows give Spearman's exactly, over a resample very nearly.
    """
    from scipy.stats import rankdata  # takes most of a second to import, and regression alone it

    columns = [np.ones(len(truth))]
    for x, y in ((truth, guess), (rankdata(truth), rankdata(guess))):
        # Centred, because xx - x * x of large numbers loses all digits; scaled, because the
        # products of large numbers would overflow.
        x, y = _standard(x), _standard(y)
        columns += [x, y, x * x, y * y, x * y]
    return np.stack(columns, axis=1)


def correlations(totals: Statistics) -> dict[str, Statistics]:
    """`pearson` and `spearman` [...] from summed `moments` [..., 11]; 0 where one side is flat."""
    count = totals[..., 0]
    return {
        name: _pearson(count, *np.moveaxis(totals[..., start : start + 5], -1, 0))
        for name, start in (("pearson", 1), ("spearman", 6))
    }


def _pearson(
    n: Statistics, x: Statistics, y: Statistics, xx: Statistics, yy: Statistics, xy: Statistics
) -> Statistics:
    first, second = n * xx - x * x, n * yy - y * y
    flat = (first <= FLAT * n * xx) | (second <= FLAT * n * yy)
    return ratio(np.where(flat, 0.0, n * xy - x * y), np.sqrt(np.where(flat, 0.0, first * second)))


def _standard(values: Statistics) -> Statistics:
    centred = values - values.mean()
    # Rounding leaves a trace of equal values, which must not be blown up to a deviation of 1.
    flat = np.ptp(values) <= FLAT * np.abs(values).max(initial=0.0)
    return np.zeros_like(centred) if flat else centred / np.abs(centred).max()
