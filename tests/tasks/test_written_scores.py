"""What a task of written texts gives for its rows: scores, errors, detail, baseline."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sacrebleu

from ptv2_cli.errors import InputError
from ptv2_cli.tasks.catalog import load_task

TASK: Any = load_task("text/generation", {})
ROWS = [
    {"input": "one", "output": ["The cat sat on the mat.", "A cat sits on a mat."]},
    {"input": "two", "output": "The dog ran home in the rain."},
    {"input": "three", "output": ["It is a cheap place by the river."]},
]
LINES = [
    {"text": "The cat sits on the mat.", "gold_log_probability": -9.0, "gold_tokens": 8},
    {"text": "The dog ran home in rain!", "gold_log_probability": -6.0, "gold_tokens": 7},
    {"text": "It is by the river.", "gold_log_probability": -15.0, "gold_tokens": 9},
]
NAMES = ["rouge_l", "rouge_1", "rouge_2", "bleu", "chrf", "f1", "exact_match"]


def test_all_scores_and_their_errors() -> None:
    scores = TASK.score(ROWS, LINES)
    assert list(scores.metrics) == NAMES
    texts = [line["text"] for line in LINES]
    streams = [
        ["The cat sat on the mat.", "The dog ran home in the rain.", ROWS[2]["output"][0]],
        ["A cat sits on a mat.", None, None],
    ]
    bleu = sacrebleu.corpus_bleu(texts, streams).score
    assert 100 * scores.metrics["bleu"] == pytest.approx(bleu)
    # Articles and punctuation do not count: two of three texts are right.
    assert scores.metrics["exact_match"] == pytest.approx(2 / 3)
    assert list(scores.standard_errors) == NAMES
    assert all(0 < error < 0.5 for error in scores.standard_errors.values())
    assert scores.standard_error == scores.standard_errors["rouge_l"]
    assert scores.detail["standard_errors"] == scores.standard_errors


def test_totals_give_the_same_scores() -> None:
    totals = TASK.row_statistics(ROWS, LINES).sum(axis=0)
    values = {name: float(value) for name, value in TASK.from_statistics(totals).items()}
    assert values == TASK.score(ROWS, LINES).metrics


def test_perplexity_stands_in_the_detail() -> None:
    detail = TASK.score(ROWS, LINES).detail
    assert detail["perplexity"] == pytest.approx(math.exp(30 / 24))
    assert detail["perplexity_error"] > 0
    unknown = [{"text": line["text"]} for line in LINES]
    assert list(TASK.score(ROWS, unknown).detail) == ["standard_errors"]


def test_perplexities_of_any_size(recwarn: pytest.WarningsRecorder) -> None:
    lines = [{**line, "gold_log_probability": -400.0 * line["gold_tokens"]} for line in LINES]
    lines[0] = LINES[0]
    assert TASK.score(ROWS, lines).detail["perplexity"] > 1e99
    assert not recwarn.list


def test_one_row() -> None:
    scores = TASK.score(ROWS[:1], LINES[:1])
    assert scores.metrics["exact_match"] == 1
    assert list(scores.standard_errors.values()) == pytest.approx([0.0] * len(NAMES), abs=1e-12)


def test_the_baseline_writes_the_most_frequent_text() -> None:
    train = [{"output": "b"}, {"output": "It is by the river."}, {"output": "It is by the river."}]
    guesses = TASK.majority(train, ROWS)
    assert [guess["text"] for guess in guesses] == ["It is by the river."] * 3
    assert 0 < TASK.score(ROWS, guesses).metrics["rouge_l"] < 1
    assert TASK.majority([{"input": "x"}], ROWS) is None


def test_rows_without_a_right_text() -> None:
    with pytest.raises(InputError, match="no gold answer"):
        TASK.score([*ROWS, {"input": "four"}], [*LINES, LINES[0]])
