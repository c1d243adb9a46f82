"""McNemar's test and the paired bootstrap, against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ptv2_cli.report.paired import McNemar, holm, mcnemar, over_seeds, paired_bootstrap
from ptv2_cli.scoring.scores import Statistics
from ptv2_cli.tasks.catalog import load_task


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (1, 8, 2 * (1 + 9) / 2**9),
        (8, 1, 2 * (1 + 9) / 2**9),
        (0, 5, 2 / 2**5),
        (2, 2, 1.0),  # 2 * 11 / 16 is more than 1
        (0, 0, 1.0),
    ],
)
def test_mcnemar_worked_by_hand(only_a: int, only_b: int, p: float) -> None:
    assert McNemar(only_a, only_b).p == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize(("only_a", "only_b"), [(3, 11), (40, 71), (900, 1100), (0, 60)])
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    count, smaller = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(count, k) for k in range(smaller + 1))  # of whole numbers: exact
    assert McNemar(only_a, only_b).p == pytest.approx(2 * tail / 2**count, rel=1e-9)


def test_mcnemar_counts_rows() -> None:
    a, b = np.array([1, 1, 0, 0, 1.0]), np.array([1, 0, 1, 0, 0.0])
    assert mcnemar(a, b) == McNemar(only_a=2, only_b=1)


def mean(totals: Statistics) -> dict[str, Statistics]:
    return {"mean": totals[..., 0] / totals[..., 1]}


def rows(*values: float) -> Statistics:
    return np.array([[value, 1.0] for value in values])


def test_bootstrap_of_two_rows_worked_by_hand() -> None:
    # Differences 0 and 1, d = 1/2. A draw of two rows gives d* = 0, 1/2, 1 with shares 1/4,
    # 1/2, 1/4; |d* - d| >= 1/2 for the first and the last: p is 1/2 but for chance.
    found = paired_bootstrap([rows(0, 0)], [rows(0, 1)], mean)["mean"]
    assert (found.a, found.b, found.difference) == (0.0, 0.5, 0.5)
    assert found.p == pytest.approx(0.5, abs=0.02)
    assert (found.low, found.high) == (0.0, 1.0)


def test_bootstrap_of_equal_runs() -> None:
    found = paired_bootstrap([rows(1, 0, 1)], [rows(1, 0, 1)], mean)["mean"]
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_bootstrap_that_no_draw_contradicts() -> None:
    # Every row gains the same: all draws agree, and the least p is 1 / (draws + 1).
    found = paired_bootstrap([rows(0, 0, 0)], [rows(1, 1, 1)], mean, draws=999)["mean"]
    assert found.p == pytest.approx(1 / 1000)
    assert (found.low, found.high) == (1.0, 1.0)


def test_bootstrap_is_paired_and_two_sided() -> None:
    generator = np.random.default_rng(0)
    base = generator.random(200)
    better = base + 0.01 + 0.02 * generator.standard_normal(200)
    found = paired_bootstrap([rows(*base)], [rows(*better)], mean)["mean"]
    back = paired_bootstrap([rows(*better)], [rows(*base)], mean)["mean"]
    # Standard error of the mean difference: 0.02 / sqrt(200) = 0.0014. Unpaired it were 0.03.
    error = float(np.std(better - base, ddof=1)) / np.sqrt(200)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert found.p < 0.001
    assert back.p < 0.001
    assert back.low == pytest.approx(-found.high, abs=2e-4)


def test_p_is_near_that_of_the_t_test() -> None:
    from scipy.stats import ttest_1samp

    generator = np.random.default_rng(1)
    gains = 0.1 + generator.standard_normal(300)
    found = paired_bootstrap([rows(*np.zeros(300))], [rows(*gains)], mean)["mean"]
    assert found.p == pytest.approx(ttest_1samp(gains, 0).pvalue, abs=0.02)


def test_a_side_of_several_runs_has_the_mean_of_their_scores() -> None:
    a, b, c = rows(0, 0, 1, 1), rows(0, 1, 1, 1), rows(1, 1, 0, 1)
    found = paired_bootstrap([a], [b, c], mean)["mean"]
    assert (found.a, found.b) == (0.5, 0.75)
    # Of each row the mean over the runs, which for a mean of rows is the same thing.
    both = paired_bootstrap([a], [rows(0.5, 1, 0.5, 1)], mean)["mean"]
    assert found.p == pytest.approx(both.p, abs=0.02)
    assert (found.low, found.high) == pytest.approx((both.low, both.high), abs=0.02)


def test_seeds_by_welch() -> None:
    from scipy.stats import t

    # Means 2 and 5, variances 1 and 4: t = 3 / sqrt(1/3 + 4/3); Welch's degrees of freedom are
    # (5/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 50 / 17.
    assert over_seeds([1, 2, 3], [3, 5, 7]) == pytest.approx(
        2 * t.sf(3 / np.sqrt(5 / 3), 50 / 17), rel=1e-9
    )


def test_seeds_that_say_nothing() -> None:
    assert over_seeds([0.5], [0.1, 0.2]) is None
    assert over_seeds([0.5, 0.5], [0.1, 0.1]) is None


def test_holm_worked_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1; the last two may not fall below the second.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_same_rows_give_the_same_figures() -> None:
    a, b = rows(0, 1, 0, 1, 1), rows(1, 1, 0, 0, 1)
    assert paired_bootstrap([a], [b], mean) == paired_bootstrap([a], [b], mean)


def test_chunks_change_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = rows(0, 1, 0, 1, 1, 0, 0), rows(1, 1, 0, 0, 1, 1, 1)
    whole = paired_bootstrap([a], [b], mean)["mean"]
    monkeypatch.setattr("ptv2_cli.report.paired._CELLS_AT_ONCE", 12)
    assert paired_bootstrap([a], [b], mean)["mean"] == whole


def test_entity_f1_of_drawn_rows_is_seqevals() -> None:
    from seqeval.metrics import f1_score

    task = load_task("ner/conll2003")
    gold = [{"tags": tags.split()} for tags in ("B-PER O", "O B-LOC", "B-ORG I-ORG", "O O")]
    first = [{"tags": tags.split()} for tags in ("B-PER O", "O O", "B-ORG O", "B-PER O")]
    second = [{"tags": tags.split()} for tags in ("B-PER O", "O B-LOC", "B-ORG I-ORG", "O O")]
    found = paired_bootstrap(
        [task.row_statistics(gold, first)],
        [task.row_statistics(gold, second)],
        task.from_statistics,
    )["f1"]
    truth = [row["tags"] for row in gold]
    assert found.a == pytest.approx(f1_score(truth, [row["tags"] for row in first]))
    assert found.b == 1.0
