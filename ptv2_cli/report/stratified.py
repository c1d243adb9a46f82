"""One method against another over several settings and seeds: a test and effect sizes."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptv2_cli.scoring.scores import Statistics

DRAWS = 10_000
"""Random assignments where there are too many to try all of them."""
EXACT = 20_000
"""Most assignments that are all tried."""
SEED = 20_000
"""Fixed, so that the same runs always give the same p."""

Stratum = tuple[Sequence[float], Sequence[float]]
"""The scores of two methods in one setting, such as a task on a backbone; one for each seed."""


@dataclass(frozen=True)
class Stratified:
    """The difference of two methods over several settings, as fractions."""

    difference: float
    """The mean over the settings of (mean of the first - mean of the second)."""
    p: float
    """Two-sided."""
    least: float
    """The smallest p that so many scores can give: 1 for a single pair."""


def permutation(strata: Sequence[Stratum], draws: int = DRAWS, seed: int = SEED) -> Stratified:
    """The stratified permutation test of the mean difference of two methods.

    If the methods are equally good, the scores of one setting could as well carry the methods'
    names in any other order (Pitman 1937, Supplement to the Journal of the Royal Statistical
    Society 4). Names are permuted within each setting alone, so a hard task is never compared
    with an easy one. The statistic is the mean over the settings of the difference of the
    means, the figure that an average over tasks reports; a test of ranks would answer another
    question. It assumes no normal distribution, which two or three seeds could not show, and
    works with different numbers of seeds. With one seed per method it is the sign-flip test over
    the settings.

    All assignments are tried if there are at most EXACT; then p is exact. Otherwise p =
    (1 + #{|d*| >= |d|}) / (draws + 1), which is never zero (Phipson and Smyth 2010, Statistical
    Applications in Genetics and Molecular Biology 9).

    Args:
        strata: for each setting the scores of both methods; none may be empty.
        draws: number of random assignments.
        seed: of the draws.
    """
    seen = statistics.fmean(_difference(*stratum) for stratum in strata)
    counts = [math.comb(len(a) + len(b), len(a)) for a, b in strata]
    every = math.prod(counts)
    if every <= EXACT:
        drawn = _all(strata)
        extreme = int((np.abs(drawn) >= abs(seen) - 1e-12).sum())
        # The names swapped in all settings at once give -d, if both have as many seeds.
        swapped = all(len(a) == len(b) for a, b in strata)
        return Stratified(seen, extreme / every, (2 if swapped else 1) / every)
    drawn = _random(strata, draws, seed)
    extreme = int((np.abs(drawn) >= abs(seen) - 1e-12).sum())
    return Stratified(seen, (1 + extreme) / (draws + 1), 1 / (draws + 1))


def hedges_g(a: Sequence[float], b: Sequence[float]) -> float | None:
    """The difference of two means in standard deviations (Hedges 1981, J. Educ. Statistics 6).

    g = J (mean(a) - mean(b)) / s, with s the pooled sample standard deviation of df = n_a + n_b - 2
    degrees of freedom and J = 1 - 3 / (4 df - 1), which removes the bias of few scores. None below
    two scores a side, or where no score differs from another of its side.
    """
    if min(len(a), len(b)) < 2:
        return None
    df = len(a) + len(b) - 2
    squares = (len(a) - 1) * statistics.variance(a) + (len(b) - 1) * statistics.variance(b)
    if not squares:
        return None
    return (1 - 3 / (4 * df - 1)) * _difference(a, b) / math.sqrt(squares / df)


def cliffs_delta(strata: Sequence[Stratum]) -> float:
    """The share of pairs that the first method wins minus the share that it loses (Cliff 1993).

    Psychological Bulletin 114. Pairs are scores of one setting; the mean over the settings. 1:
    every score of the first is higher; 0: neither is ahead.
    """
    return statistics.fmean(
        statistics.fmean((x > y) - (x < y) for x in a for y in b) for a, b in strata
    )


def _difference(a: Sequence[float], b: Sequence[float]) -> float:
    return statistics.fmean(a) - statistics.fmean(b)


def _all(strata: Sequence[Stratum]) -> Statistics:
    """The statistic of every assignment: sums over one assignment of each setting."""
    sums = np.zeros(1)
    for a, b in strata:
        pooled, total = [*a, *b], sum(a) + sum(b)
        firsts = np.array([sum(part) for part in itertools.combinations(pooled, len(a))])
        differences = firsts / len(a) - (total - firsts) / len(b)
        sums = np.add.outer(sums, differences).ravel()
    return np.asarray(sums / len(strata))


def _random(strata: Sequence[Stratum], draws: int, seed: int) -> Statistics:
    generator = np.random.default_rng(seed)
    sums = np.zeros(draws)
    for a, b in strata:
        pooled = generator.permuted(np.tile([*a, *b], (draws, 1)), axis=1)
        sums += pooled[:, : len(a)].mean(axis=1) - pooled[:, len(a) :].mean(axis=1)
    return sums / len(strata)
