"""Pearson's and Spearman's correlation from sums over rows, so that rows can be resampled."""

from __future__ import annotations

import numpy as np

from ptv2_cli.tasks.base import Statistics
from ptv2_cli.tasks.statistics import ratio

FLAT = 1e-12
"""Share of a variance that rounding leaves of one that is zero."""


def moments(truth: Statistics, guess: Statistics) -> Statistics:
    """Per row [n, 11] the terms of both correlations: 1, and x, y, xx, yy, xy twice.

    First of the values, centred, then of their ranks. Ranks are those among all n rows: totals
    over all rows give Spearman's exactly, over a resample very nearly.
    """
    columns = [np.ones(len(truth))]
    for x, y in ((truth, guess), (_ranks(truth), _ranks(guess))):
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
    return ratio(np.where(flat, 0.0, n * xy - x * y), np.where(flat, 0.0, np.sqrt(first * second)))


def _standard(values: Statistics) -> Statistics:
    centred = values - values.mean()
    # Rounding leaves a trace of equal values, which must not be blown up to a deviation of 1.
    flat = np.ptp(values) <= FLAT * np.abs(values).max(initial=0.0)
    return np.zeros_like(centred) if flat else centred / np.abs(centred).max()


def _ranks(values: Statistics) -> Statistics:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=float)
