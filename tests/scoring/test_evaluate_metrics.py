from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptv2_cli.scoring import cmrc
from ptv2_cli.scoring.resampling import correlations, mean_error, moments, resampled_errors
from ptv2_cli.scoring.squad import best_over, best_threshold, exact_match, f1, normalise


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The Cat's  mat!", "cats mat"),
        ("an a the", ""),
        ("theatre a-b", "theatre ab"),
        ("1,000\tmen", "1000 men"),
        ("«Anna»", "«anna»"),
    ],
)
def test_normalise(text: str, plain: str) -> None:
    assert normalise(text) == plain


@pytest.mark.parametrize(
    ("answer", "gold", "em", "overlap"),
    [
        ("the Red dog", "red dog!", 1.0, 1.0),
        ("big red dog", "red dog", 0.0, 0.8),
        ("dog dog", "dog", 0.0, 2 / 3),
        ("cat", "dog", 0.0, 0.0),
        ("", "dog", 0.0, 0.0),
        ("the", "", 1.0, 1.0),
    ],
)
def test_answers_compared(answer: str, gold: str, em: float, overlap: float) -> None:
    assert exact_match(answer, gold) == em
    assert f1(answer, gold) == pytest.approx(overlap)


def test_best_over_golds_takes_each_metric_s_best() -> None:
    assert best_over("big red dog", ["dog", "the big red dog house", "x"]) == (
        0.0,
        pytest.approx(6 / 7),
    )
    # Answers of which normalising leaves nothing do not count, unless there is no other.
    assert best_over("", ["the", "dog"]) == (0.0, 0.0)
    assert best_over("", ["the"]) == (1.0, 1.0)
    assert best_over("", []) == (1.0, 1.0)


def test_best_threshold_worked_by_hand() -> None:
    # By rising no-answer score: gains of answering are +1, -1, +0.5, +1, -1.
    chance = [0.1, 0.2, 0.4, 0.5, 0.9]
    answered = [1.0, 0.0, 0.5, 1.0, 0.0]
    silent = [0.0, 1.0, 0.0, 0.0, 1.0]
    assert best_threshold(chance, answered, silent) == (0.5, pytest.approx(3.5 / 5))
    assert best_threshold([0.3], [0.0], [1.0]) == (pytest.approx(-0.7), 1.0)
    # Equal scores cannot be parted.
    assert best_threshold([1.0, 1.0], [1.0, 0.0], [0.0, 1.0])[1] == 0.5


def test_frequent_characters_of_a_long_answer_count() -> None:
    gold = "的是" * 150
    assert cmrc.f1(gold[:100], gold) == 2 * 100 / 400
    assert cmrc.f1("我" + gold[:100] + "我", gold) == 2 * 100 / 402


def test_ranks_of_equal_values_are_their_mean() -> None:
    truth, guess = np.array([1.0, 2.0, 2.0, 4.0]), np.array([3.0, 3.0, 3.0, 9.0])
    # Ranks 1, 2.5, 2.5, 4 and 2, 2, 2, 4: their correlation worked by hand.
    found = correlations(moments(truth, guess).sum(axis=0))
    assert found["spearman"] == pytest.approx(3 / np.sqrt(4.5 * 3))


def test_correlations_of_no_numbers_are_zero() -> None:
    found = correlations(moments(np.array([1.0, 2.0, 3.0]), np.array([np.nan, 1, 2])).sum(axis=0))
    assert found == {"pearson": 0.0, "spearman": 0.0}


def test_mean_error() -> None:
    assert mean_error(np.array([1.0, 0.0, 1.0, 0.0])) == pytest.approx(np.sqrt(1 / 3) / 2)
    assert mean_error(np.array([1.0])) == 0.0


def test_the_bootstrap_finds_the_error_of_a_mean() -> None:
    values = np.random.default_rng(0).random((400, 1))
    found = resampled_errors(values, lambda totals: {"mean": totals[..., 0] / 400})
    assert found["mean"] == pytest.approx(mean_error(values[:, 0]), rel=0.15)
    assert found == resampled_errors(values, lambda totals: {"mean": totals[..., 0] / 400})


def test_metrics_are_evaluate_metrics_of_their_own() -> None:
    import evaluate

    from ptv2_cli.scoring.evaluate_metrics import Accuracy, Entities, MacroF1, Squad

    for metric in (Accuracy(), MacroF1(), Entities(), Squad()):
        assert isinstance(metric, evaluate.Metric)
        assert metric.keep_in_memory
    assert Accuracy().compute(predictions=[0, 1, 1], references=[0, 0, 1]) == {
        "accuracy": pytest.approx(2 / 3)
    }
    assert Squad().compute(predictions=["", "cat"], references=[[], ["cat"]])["f1"] == 1.0


def test_scoring_leaves_the_global_generator_alone() -> None:
    from ptv2_cli.scoring.evaluate_metrics import Accuracy

    np.random.seed(4)
    before = np.random.get_state()[1].tolist()
    Accuracy().compute(predictions=[0], references=[0])
    assert np.random.get_state()[1].tolist() == before


def test_scores_need_no_home_no_cache_and_no_network(tmp_path: Path) -> None:
    code = """
import os, pathlib, socket
def refuse(*args, **kwargs):
    raise AssertionError(f"not allowed: {args}")
socket.socket.connect = refuse
made, mkdir = [], os.mkdir
os.mkdir = lambda path, *args, **kwargs: (made.append(str(path)), mkdir(path, *args, **kwargs))
from ptv2_cli.tasks.catalog import load_task
ner, qa, cb = (load_task(n) for n in ("ner/conll2003", "qa/squad_v2", "superglue/cb"))
row = {"tokens": ["x"], "tags": ["B-PER"]}
assert ner.score([row], [{"tags": ["B-PER"]}]).metrics["f1"] == 1.0
row = {"question": "q", "context": "c", "answers": []}
assert qa.score([row], [{"answer": ""}]).metrics["exact_match"] == 1.0
assert cb.score([{"label": "neutral"}], [{"label": "neutral"}]).metrics["f1_macro"] == 1.0
lost = os.environ["HOME"].rsplit("/", 1)[0]
assert not [path for path in made if path.startswith(lost) or "evaluate" in path], made
"""
    lost = tmp_path / "locked"
    lost.mkdir(mode=0o500)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))}
    env |= {"HOME": str(lost / "home"), "HF_HOME": str(lost / "hf"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert list(lost.iterdir()) == []
