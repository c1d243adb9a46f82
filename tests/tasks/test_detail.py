"""`detail` of metrics.json against the libraries' own figures, on random answers."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ptv2_cli.tasks.catalog import load_task

COUNT = 60


def test_classes_and_confusion_are_sklearns() -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    task = load_task("superglue/cb")
    draws = random.Random(1)
    gold, guess = (draws.choices(task.labels, weights=(5, 3, 1), k=COUNT) for _ in range(2))
    detail = task.score([{"label": g} for g in gold], [{"label": g} for g in guess]).detail
    names = list(task.labels)
    table = confusion_matrix(gold, guess, labels=names)
    assert detail["confusion"] == {
        truth: {answer: int(table[i, j]) for j, answer in enumerate(names)}
        for i, truth in enumerate(names)
    }
    figures = precision_recall_fscore_support(gold, guess, labels=names, zero_division=0)
    for index, name in enumerate(names):
        expected = [float(column[index]) for column in figures]
        assert list(detail["classes"][name]) == ["precision", "recall", "f1", "support"]
        assert list(detail["classes"][name].values()) == pytest.approx(expected)


def test_a_class_that_is_never_predicted_has_zeros() -> None:
    task = load_task("superglue/cb")
    detail = task.score([{"label": "neutral"}], [{"label": "entailment"}]).detail
    assert detail["classes"]["neutral"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert detail["classes"]["contradiction"]["support"] == 0
    assert detail["confusion"]["neutral"]["entailment"] == 1


def tags(draws: random.Random) -> list[list[str]]:
    names = ("O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG")
    return [draws.choices(names, k=draws.randint(1, 8)) for _ in range(COUNT)]


def test_entity_types_are_counted_by_hand() -> None:
    """Types are those of seqeval's default mode; here each is counted from sets of spans."""
    from ptv2_cli.scoring.entities import entities

    task = load_task("ner/conll2003")
    draws = random.Random(2)
    gold = tags(draws)
    guess = [[draws.choice([tag, "O", "B-MISC"]) for tag in sentence] for sentence in gold]
    detail = task.score([{"tags": t} for t in gold], [{"tags": t} for t in guess]).detail
    truth = {(n, *entity) for n, sentence in enumerate(gold) for entity in entities(sentence)}
    found = {(n, *entity) for n, sentence in enumerate(guess) for entity in entities(sentence)}
    assert detail["entities"] == len(truth)
    assert set(detail["types"]) == {entity[1] for entity in truth | found}
    for name, figures in detail["types"].items():
        own = [{e for e in side if e[1] == name} for side in (truth, found)]
        right, support, predicted = len(own[0] & own[1]), len(own[0]), len(own[1])
        expected = {
            "precision": right / predicted if predicted else 0.0,
            "recall": right / support if support else 0.0,
            "f1": 2 * right / (support + predicted),
            "support": support,
        }
        assert figures == pytest.approx(expected)
    # MISC was predicted and is nowhere gold: it has a line of zeros.
    assert detail["types"]["MISC"]["support"] == 0


def test_questions_with_and_without_an_answer() -> None:
    task = load_task("qa/squad_v2")

    def row(*texts: str) -> dict[str, Any]:
        return {"answers": [{"text": text, "answer_start": 0} for text in texts]}

    rows = [row("red dog"), row("cat", "a cat"), row(), row()]
    lines = [{"answer": answer} for answer in ("dog", "the cat", "", "mat")]
    detail = task.score(rows, lines).detail
    assert detail["has_answer"] == pytest.approx(
        {"exact_match": 0.5, "f1": (2 / 3 + 1) / 2, "rows": 2}
    )
    assert detail["no_answer"] == pytest.approx({"exact_match": 0.5, "f1": 0.5, "rows": 2})
