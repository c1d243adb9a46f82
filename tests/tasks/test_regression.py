from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ptv2_cli.errors import DataError, InputError
from ptv2_cli.inputs.batch import collate
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.scoring.resampling import correlations, moments
from ptv2_cli.tasks.catalog import load_task


def lines(values: Any) -> list[dict[str, Any]]:
    return [float(value) for value in values]


def rows(values: Any) -> list[dict[str, Any]]:
    return [{"text": "the cat", "label": float(value)} for value in values]


def task(**options: Any) -> Any:
    return load_task("text/regression", {"mean": 0.0, "deviation": 1.0, **options})


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_both_correlations_are_scipys(scale: float, shift: float) -> None:
    from scipy.stats import pearsonr, spearmanr

    draw = np.random.default_rng(3)
    truth = np.round(draw.normal(size=40), 1) * scale + shift * scale  # with ties
    guess = truth + draw.normal(size=40) * scale
    found = task().score(rows(truth), lines(guess)).metrics
    assert found["pearson"] == pytest.approx(pearsonr(truth, guess)[0], rel=1e-6)
    assert found["spearman"] == pytest.approx(spearmanr(truth, guess)[0], rel=1e-9)


def test_equal_predictions_have_no_correlation() -> None:
    for value in (0.1, 1e9, 0.0):
        found = task().score(rows([1, 2, 3]), lines([value] * 3))
        assert found.metrics == {"pearson": 0.0, "spearman": 0.0}
        assert found.standard_error == 0.0
    assert task().score(rows([2]), lines([5])).metrics["pearson"] == 0.0


def test_statistics_of_a_sample_are_its_correlation() -> None:
    draw = np.random.default_rng(4)
    truth, guess = draw.normal(size=30), draw.normal(size=30)
    chosen = draw.integers(0, 30, size=30)
    totals = moments(truth, guess)[chosen].sum(axis=0)
    expected = np.corrcoef(truth[chosen], guess[chosen])[0, 1]
    assert float(correlations(totals)["pearson"]) == pytest.approx(expected)


def test_errors_are_on_the_scale_of_the_labels() -> None:
    detail = task().score(rows([1, 2, 3]), lines([2, 2, 5])).detail
    assert detail["mean_absolute_error"] == pytest.approx(1.0)
    assert detail["root_mean_squared_error"] == pytest.approx(math.sqrt(5 / 3))


def test_mean_and_deviation_come_from_train(corpus: Any, wordpiece: Any) -> None:
    corpus.put("train.csv", "text,label\nthe cat,300000\nthe dog,100000\n")
    found = load_task("text/regression").settle(corpus.source)
    assert (found.options.mean, found.options.deviation) == (200000.0, 100000.0)
    split = found.read(corpus.source, "train")
    features = found.encode(split.rows, Encoder(wordpiece, 12))
    assert [feature.label for feature in features] == [1.0, -1.0]
    outputs = [{"value": np.float32(1.0)}, {"value": np.float32(-0.5)}]
    assert found.decode(split.rows, features, outputs, {}) == lines([300000, 150000])
    (corpus.path / "train.csv").unlink()
    assert found.settle(corpus.source) is found


def test_majority_is_the_mean_of_train() -> None:
    assert task().majority(rows([1, 2, 6]), rows([0, 0])) == lines([3, 3])
    assert task().majority([{"text": "x"}], rows([0])) is None


def test_unlabelled_rows_do_not_count_in_a_batch(wordpiece: Any) -> None:
    mixed = [*rows([2.5]), {"text": "the dog"}]
    features = task().encode(mixed, Encoder(wordpiece, 12))
    batch = collate(features, 0, "regression")
    assert batch.targets == 1
    assert batch.labels is not None
    assert batch.labels[0] == 2.5
    assert batch.labels[1].isnan()
    assert collate(features[1:], 0, "regression").labels is None
    with pytest.raises(InputError, match="row 2 of 2 has no gold"):
        task().score(mixed, lines([1, 1]))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("good", "holds 'good': no number"),
        ("nan", "holds 'nan': no number"),
        ('"3,5"', "write 3.5"),
        ("", "is empty: no label"),
    ],
)
def test_a_label_that_is_no_number(corpus: Any, value: str, says: str) -> None:
    path = corpus.put("train.csv", f"text,label\nthe cat,1\nthe dog,{value}\n")
    with pytest.raises(DataError) as caught:
        load_task("text/regression").settle(corpus.source)
    assert f"{path}:3: column 'label'" in str(caught.value)
    assert says in str(caught.value)


def test_one_number_everywhere(corpus: Any) -> None:
    corpus.put("train.csv", "text,label\nthe cat,2\nthe dog,2.0\n")
    with pytest.raises(DataError, match="holds 2 in every row"):
        load_task("text/regression").settle(corpus.source)
