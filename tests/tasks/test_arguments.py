"""The official count of CoNLL-2005, worked by hand.

Carreras and Marquez 2005 (Introduction to the CoNLL-2005 Shared Task: Semantic Role Labeling,
W05-0620): an argument is right if both the words that it spans and its role are; precision,
recall and F1 are over the arguments of all propositions; V is not counted, for it is given; a
C-X is a part of the argument X that it continues.
"""

from __future__ import annotations

import random

import pytest

from ptv2_cli.tasks.catalog import load_task
from ptv2_cli.tasks.roles import Argument, arguments, by_role

TASK = load_task("srl/conll2005")


def line(tags: str) -> dict[str, object]:
    found = tags.split()
    return {"tokens": ["w"] * len(found), "predicate": 0, "tags": found}


def test_continuations_are_joined_and_the_verb_is_left_out() -> None:
    tags = ["B-A1", "I-A1", "B-V", "O", "B-C-A1", "B-C-V", "B-R-A1", "B-AM-TMP", "I-AM-TMP"]
    assert arguments(tags) == [
        Argument("A1", ((0, 2), (4, 5))),
        Argument("R-A1", ((6, 7),)),
        Argument("AM-TMP", ((7, 9),)),
    ]


def test_a_continuation_joins_the_last_argument_of_its_role() -> None:
    tags = ["B-A1", "B-V", "B-A0", "B-A1", "B-C-A1", "B-C-A2"]
    assert arguments(tags) == [
        Argument("A1", ((0, 1),)),
        Argument("A0", ((2, 3),)),
        Argument("A1", ((3, 4), (4, 5))),
        Argument("A2", ((5, 6),)),  # continues nothing: one of its own
    ]


def test_scores_worked_by_hand() -> None:
    # "the cat , said ann , sat": A1 in two pieces around the verb.
    gold = [line("B-A1 I-A1 O B-V B-A0 O B-C-A1"), line("B-A0 B-V B-A1 I-A1 B-R-A1")]
    guess = [line("B-A1 I-A1 O B-V B-A0 O O"), line("B-A0 B-V B-A1 I-A1 B-R-A1")]
    scores = TASK.score(gold, guess)
    # Official. Gold: A1 (both pieces), A0; A0, A1, R-A1: 5. Guessed: A1 (one piece: wrong), A0;
    # A0, A1, R-A1: 5, of which 4 are right.
    assert scores.metrics["precision"] == pytest.approx(4 / 5)
    assert scores.metrics["recall"] == pytest.approx(4 / 5)
    assert scores.metrics["f1"] == pytest.approx(4 / 5)
    # The reference counts spans: gold A1, V, A0, C-A1; A0, V, A1, R-A1: 8. Guessed all of them
    # but C-A1: 7, all right.
    assert scores.metrics["precision_reference"] == pytest.approx(1.0)
    assert scores.metrics["recall_reference"] == pytest.approx(7 / 8)
    assert scores.metrics["f1_reference"] == pytest.approx(14 / 15)
    assert scores.detail["propositions"] == 2
    assert scores.detail["roles"] == {
        "A0": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2},
        "A1": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
        "R-A1": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1},
    }
    assert "corpora" not in scores.detail


def test_an_argument_of_other_bounds_or_role_is_wrong() -> None:
    gold = ["B-A0", "I-A0", "B-V", "B-AM-LOC"]
    assert by_role([(["B-A0", "O", "B-V", "B-AM-TMP"], gold)]) == {
        "A0": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        "AM-LOC": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        "AM-TMP": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
    }


def test_the_test_corpora_are_scored_apart() -> None:
    gold = [line("B-A0 B-V") | {"corpus": "wsj"}, line("B-A1 B-V") | {"corpus": "brown"}]
    scores = TASK.score(gold, [line("B-A0 B-V"), line("B-A2 B-V")])
    assert scores.metrics["f1"] == pytest.approx(0.5)
    assert scores.detail["corpora"] == {
        "wsj": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1},
        "brown": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
    }


def random_lines(count: int, seed: int) -> list[dict[str, object]]:
    draw = random.Random(seed)
    roles = ["A0", "A1", "C-A1", "R-A0", "V", "AM-TMP"]
    tags = ["O", *(f"{prefix}-{role}" for role in roles for prefix in "BI")]
    return [line(" ".join(draw.choices(tags, k=9))) for _ in range(count)]


def test_the_reference_count_is_seqeval() -> None:
    from seqeval.metrics import f1_score, precision_score, recall_score

    gold, guess = random_lines(80, 1), random_lines(80, 2)
    guess[:30] = gold[:30]
    found = TASK.score(gold, guess).metrics
    pair = [row["tags"] for row in gold], [row["tags"] for row in guess]
    assert found["f1_reference"] == pytest.approx(f1_score(*pair))
    assert found["precision_reference"] == pytest.approx(precision_score(*pair))
    assert found["recall_reference"] == pytest.approx(recall_score(*pair))
    assert found["f1"] != pytest.approx(found["f1_reference"])


def test_majority_has_no_argument() -> None:
    gold = [line("B-A0 B-V")]
    guess = TASK.majority([], gold)
    assert guess == [{"tags": ["O", "O"], "entities": []}]
    assert set(TASK.score(gold, guess).metrics.values()) == {0.0}
