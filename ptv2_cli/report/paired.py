"""Tests of two sides, each a run or several seeds: is the difference more than chance?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ptv2_cli.scoring.scores import Statistics

DRAWS = 10_000
LEVEL = 0.95
SEED = 20_000
"""Fixed, so that the same two runs always give the same figures."""
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class McNemar:
    """Rows that only one of two runs has right, and the p-value of that division."""

    only_a: int
    only_b: int

    @property
    def p(self) -> float:
        """Two-sided exact p-value; 1 if there is no such row.

        McNemar (1947, Psychometrika 12): if both runs are equally good, each row that only one
        of them has right falls to either with probability 1/2. The rows of one run then follow
        Binomial(n, 1/2).
        """
        from scipy.stats import binomtest

        count = self.only_a + self.only_b
        return float(binomtest(self.only_a, count).pvalue) if count else 1.0


@dataclass(frozen=True)
class Bootstrap:
    """The difference B - A of one metric, as fractions, and how far it could be chance."""

    a: float
    b: float
    low: float
    high: float
    """The interval that holds the middle 95 % of the drawn differences."""
    p: float

    @property
    def difference(self) -> float:
        """B - A."""
        return self.b - self.a


def mcnemar(right_a: Statistics, right_b: Statistics) -> McNemar:
    """Count the rows [n] that only one of two runs has right (values 0 and 1)."""
    a, b = np.asarray(right_a) > 0, np.asarray(right_b) > 0
    return McNemar(int((a & ~b).sum()), int((b & ~a).sum()))


def paired_bootstrap(
    rows_a: Sequence[Statistics],
    rows_b: Sequence[Statistics],
    metrics: Callable[[Statistics], dict[str, Statistics]],
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Bootstrap]:
    """Every metric of two sides on the same rows, with intervals and p-values.

    Each draw takes n rows with replacement, the same for all runs; a side's score is the mean of
    its runs' scores. The interval is the percentile interval (Efron and Tibshirani 1993, chapter
    13). The p-value is that of Berg-Kirkpatrick, Burkett and Klein (2012, EMNLP), two-sided: the
    drawn differences, moved so that their centre is no difference, are at least as large as the
    one seen, p = (1 + #{|d* - d| >= |d|}) / (draws + 1), the ones after Davison and Hinkley
    (1997, 4.2.5).

    Args:
        rows_a: for each run of the first side, statistics [n, k] (`Task.row_statistics`).
        rows_b: those of the second side, of the same rows in the same order.
        metrics: from totals [..., k] to scores [...] (`Task.from_statistics`).
        draws: number of resamples.
        seed: of the draws.
    """
    width = rows_a[0].shape[1]
    # Rows with equal statistics are one cell that is drawn as often as all of them together:
    # the same distribution, for thousands of rows in a hundredth of the time.
    cells, counts = np.unique(np.hstack([*rows_a, *rows_b]), axis=0, return_counts=True)
    first = len(rows_a)

    def sides(totals: Statistics) -> dict[str, tuple[Statistics, Statistics]]:
        runs = [metrics(totals[..., at : at + width]) for at in range(0, totals.shape[-1], width)]
        scores = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
        return {
            name: (found[:first].mean(axis=0), found[first:].mean(axis=0))
            for name, found in scores.items()
        }

    seen = sides(counts @ cells)
    drawn: dict[str, list[Statistics]] = {name: [] for name in seen}
    generator = np.random.default_rng(seed)
    for size in _chunks(draws, len(cells)):
        weights = generator.multinomial(counts.sum(), counts / counts.sum(), size=size)
        for name, (a, b) in sides(weights @ cells).items():
            drawn[name].append(np.asarray(b - a))
    return {
        name: _summary(float(seen[name][0]), float(seen[name][1]), np.concatenate(parts))
        for name, parts in drawn.items()
    }


def over_seeds(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Welch's t-test (1947, Biometrika 34) of the scores of two sides' runs: the two-sided p.

    None below two runs a side, and where neither side's scores differ: nothing is known then of
    how far another seed would move them.
    """
    if min(len(a), len(b)) < 2 or not (np.ptp(a) or np.ptp(b)):
        return None
    from scipy.stats import ttest_ind_from_stats

    sides = [fact for side in (a, b) for fact in (np.mean(side), np.std(side, ddof=1), len(side))]
    return float(ttest_ind_from_stats(*sides, equal_var=False).pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6).

    The smallest of m is multiplied by m, the next by m - 1, and so on; none may fall below the
    one before it, nor exceed 1. The chance of any false difference is then at most the level,
    however the tests depend on each other.
    """
    corrected = [0.0] * len(values)
    least = 0.0
    for rank, at in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = min(1.0, max(least, (len(values) - rank) * values[at]))
        corrected[at] = least
    return corrected


def _summary(a: float, b: float, differences: Statistics) -> Bootstrap:
    seen = b - a
    low, high = np.nanquantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # Sums of fractions differ in the last bit: a draw equal to what was seen must count.
    extreme = np.abs(differences - seen) >= abs(seen) - 1e-12
    p = (1 + int(extreme.sum())) / (len(differences) + 1)
    return Bootstrap(a, b, float(low), float(high), p)


def _chunks(draws: int, cells: int) -> list[int]:
    """`draws` in parts small enough for memory."""
    most = max(1, _CELLS_AT_ONCE // cells)
    return [min(most, draws - done) for done in range(0, draws, most)]
