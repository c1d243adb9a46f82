"""The stratified permutation test and the effect sizes, against figures worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ptv2_cli.report import stratified
from ptv2_cli.report.stratified import cliffs_delta, hedges_g, permutation


def test_one_seed_each_is_the_sign_flip_test() -> None:
    # Six settings, all won by 1, 2, ... points: 2 of 2^6 assignments are as extreme.
    found = permutation([([0.5 + n / 100], [0.5]) for n in range(1, 7)])
    assert found.difference == pytest.approx(0.035)
    assert found.p == pytest.approx(2 / 64)
    assert found.least == pytest.approx(2 / 64)


def test_two_settings_worked_by_hand() -> None:
    # Differences 2 and -1: of +-2 +-1 over 2, |d| >= 1/2 always. p is 1.
    assert permutation([([2.0], [0.0]), ([0.0], [1.0])]).p == 1.0
    # Differences 2 and 1: 1.5 and -1.5 of 1.5, .5, -.5, -1.5.
    assert permutation([([2.0], [0.0]), ([1.0], [0.0])]).p == pytest.approx(0.5)


def test_unequal_numbers_of_seeds_worked_by_hand() -> None:
    # {0, 1, 5}: the pair and the single one. |d| of {1, 5 | 0} 3, {0, 5 | 1} 1.5, {0, 1 | 5} 4.5.
    found = permutation([([1.0, 5.0], [0.0])])
    assert (found.difference, found.p, found.least) == (3.0, pytest.approx(2 / 3), 1 / 3)


def test_a_hard_task_is_never_compared_with_an_easy_one() -> None:
    # Within each setting the first wins by 1 point; between the settings lie 60.
    strata = [([0.30 + 0.01, 0.31 + 0.01], [0.30, 0.31]), ([0.90 + 0.01], [0.90])]
    strata += [([0.50 + 0.01 + n / 1000], [0.50 + n / 1000]) for n in range(6)]
    assert permutation(strata).p < 0.05
    pooled = ([x for a, _ in strata for x in a], [x for _, b in strata for x in b])
    assert permutation([pooled]).p > 0.5


def test_random_draws_agree_with_all_assignments(monkeypatch: pytest.MonkeyPatch) -> None:
    strata = [([0.8, 0.7, 0.75], [0.7, 0.72, 0.69]), ([0.5, 0.6], [0.5, 0.45])]
    exact = permutation(strata)
    monkeypatch.setattr(stratified, "EXACT", 0)
    drawn = permutation(strata)
    assert drawn.p == pytest.approx(exact.p, abs=0.02)
    assert drawn == permutation(strata)  # the same draws every time
    assert permutation([([1.0, 1.1], [0.0, 0.1])] * 9).p == pytest.approx(1 / 10_001, abs=1e-4)


def test_the_level_holds_without_a_difference() -> None:
    generator = np.random.default_rng(3)
    rejected = 0
    for _ in range(200):
        strata = [
            (generator.normal(mean, 0.02, 3), generator.normal(mean, 0.02, 3))
            for mean in (0.5, 0.7, 0.9)
        ]
        rejected += permutation([(list(a), list(b)) for a, b in strata]).p < 0.05
    assert rejected <= 18  # 10 are expected, 18 or more happen once in a hundred times


def test_hedges_g_worked_by_hand() -> None:
    # Means 3 and 1, both variances 1, df 4: d = 2, J = 1 - 3 / 15.
    assert hedges_g([2.0, 3.0, 4.0], [0.0, 1.0, 2.0]) == pytest.approx(2 * 0.8)
    assert hedges_g([1.0], [0.0, 1.0]) is None
    assert hedges_g([1.0, 1.0], [0.0, 0.0]) is None


def test_cliffs_delta_worked_by_hand() -> None:
    # Of four pairs three are won and one is lost; in the other setting all are equal.
    assert cliffs_delta([([3.0, 1.0], [2.0, 0.0])]) == 0.5
    assert cliffs_delta([([3.0, 1.0], [2.0, 0.0]), ([1.0], [1.0])]) == 0.25
