from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from ptv2_cli.errors import InputError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.features import Feature
from ptv2_cli.inputs.template import default_template
from ptv2_cli.kinds import IGNORE
from ptv2_cli.tasks.catalog import load_task

TASK = load_task("ner/conll2003")
ROW = {"tokens": ["Ann", "cats", "sat"], "tags": ["B-PER", "I-PER", "O"]}


def one_hot(features: list[Feature], tag_of: Any, sure: float = 0.7) -> list[dict[str, Any]]:
    """Outputs that give `tag_of(row, word)` at the positions read, and junk elsewhere."""
    found = []
    for feature in features:
        values = np.zeros((len(feature.input_ids), len(TASK.labels)), dtype=np.float32)
        values[:, 3] = 1.0
        for at, word in enumerate(feature.words or []):
            if word is not None:
                values[at] = (1 - sure) / (len(TASK.labels) - 1)
                values[at, TASK.labels.index(tag_of(feature.row, word))] = sure
        found.append({"probabilities": values})
    return found


def test_the_first_sub_word_is_labelled(wordpiece: Any) -> None:
    feature = TASK.encode([ROW], Encoder(wordpiece, 16))[0]
    tokens = wordpiece.convert_ids_to_tokens(feature.input_ids)
    assert tokens == ["[CLS]", "ann", "cat", "##s", "sat", "[SEP]"]
    assert feature.label == [IGNORE, 1, 2, IGNORE, 0, IGNORE]
    assert feature.words == [None, 0, 1, None, 2, None]
    assert feature.token_type_ids == [0] * 6


def test_byte_level_words_follow_a_space(roberta: Any) -> None:
    feature = TASK.encode([ROW], Encoder(roberta, 32))[0]
    tokens = roberta.convert_ids_to_tokens(feature.input_ids)
    starts = [tokens[at] for at, word in enumerate(feature.words or []) if word is not None]
    assert len(starts) == 3
    assert all(token.startswith("Ġ") for token in starts)


def test_labels_stand_past_the_slots_of_a_template(wordpiece: Any) -> None:
    template = default_template(TASK.columns, 4, with_mask=False)
    plain = TASK.encode([ROW], Encoder(wordpiece, 16))[0]
    feature = TASK.encode([ROW], Encoder(wordpiece, 16, template=template))[0]
    assert feature.slots == [-1, 0, 1, 2, 3, -1, -1, -1, -1, -1]
    assert isinstance(feature.label, list)
    assert isinstance(plain.label, list)
    assert feature.label == [IGNORE] * 5 + plain.label[1:]
    assert (feature.words or [])[5:] == (plain.words or [])[1:]


def long_rows(count: int) -> list[dict[str, Any]]:
    draw = random.Random(5)
    words = ["cat", "cats", "unaffordable", "Ann", "York", "."]
    return [
        {
            "tokens": [draw.choice(words) for _ in range(size)],
            "tags": [draw.choice(TASK.labels) for _ in range(size)],
        }
        for size in (draw.randint(1, 60) for _ in range(count))
    ]


@pytest.mark.parametrize("stride", [0, 4, 32])
@pytest.mark.parametrize("templated", [False, True])
def test_every_word_is_read_exactly_once(wordpiece: Any, stride: int, templated: bool) -> None:
    task = load_task("ner/conll2003", {"stride": stride})
    template = default_template(task.columns, 3, with_mask=False) if templated else None
    rows = long_rows(40)
    features = task.encode(rows, Encoder(wordpiece, 12, template=template))
    assert len(features) > 60
    for index, row in enumerate(rows):
        own = [feature for feature in features if feature.row == index]
        read = [word for feature in own for word in feature.words or [] if word is not None]
        assert sorted(read) == list(range(len(row["tokens"])))
        for feature in own:
            assert sum(slot < 0 for slot in feature.slots or [-1] * 0) <= 12
            assert len(feature.input_ids) <= 12 + 3 * templated
            for at, word in enumerate(feature.words or []):
                label = feature.label[at]  # type: ignore[index]
                assert label == (IGNORE if word is None else task.labels.index(row["tags"][word]))
    assert features.truncated_rows == 0
    # What the windows say, put together again, is the row's own tags.
    tag_of = lambda row, word: rows[row]["tags"][word]  # noqa: E731
    lines = task.decode(rows, features, one_hot(features, tag_of), {})
    assert [line["tags"] for line in lines] == [row["tags"] for row in rows]


def test_gold_entities_of_the_score_are_the_files(corpus: Any, wordpiece: Any) -> None:
    words = [f"York B-{kind}\nNew I-{kind}\nsat O" for kind in ("LOC", "PER", "ORG")] * 20
    corpus.put("train.txt", "\n".join(words) + "\n\n" + "Ann B-PER\n")
    rows = TASK.read(corpus.source, "train").rows
    features = TASK.encode(rows, Encoder(wordpiece, 16))
    assert len(features) > 10
    lines = TASK.decode(rows, features, one_hot(features, lambda row, word: "O"), {})
    scores = TASK.score(rows, lines)
    assert scores.detail["entities"] == 61
    assert sum(found["support"] for found in scores.detail["types"].values()) == 61


def test_a_word_longer_than_a_window_keeps_its_first_pieces(wordpiece: Any) -> None:
    row = {"tokens": ["cat", "unaffordable", "sat"], "tags": ["O", "B-PER", "O"]}
    features = TASK.encode([row], Encoder(wordpiece, 4))
    tokens = [wordpiece.convert_ids_to_tokens(feature.input_ids)[1:-1] for feature in features]
    assert tokens == [["cat"], ["un", "##afford"], ["sat"]]
    assert features.truncated_rows == 1


def test_a_word_that_vanishes_still_gets_a_tag(wordpiece: Any) -> None:
    row = {"tokens": ["\u200b", "sat"], "tags": ["B-PER", "O"]}
    feature = TASK.encode([row], Encoder(wordpiece, 8))[0]
    assert feature.label == [IGNORE, 1, 0, IGNORE]


def test_unlabelled_rows(wordpiece: Any) -> None:
    rows = [{"tokens": ["Ann"]}]
    feature = TASK.encode(rows, Encoder(wordpiece, 8))[0]
    assert feature.label is None
    assert feature.words == [None, 0, None]
    with pytest.raises(InputError, match="no gold answer"):
        TASK.score(rows, [{"tags": ["O"]}])


def test_prediction_lines(wordpiece: Any) -> None:
    rows = [{"tokens": ["New", "York", "likes", "Ann"]}]
    features = TASK.encode(rows, Encoder(wordpiece, 16))
    tags = ["B-LOC", "I-LOC", "O", "I-PER"]
    (line,) = TASK.decode(rows, features, one_hot(features, lambda row, word: tags[word], 0.5), {})
    assert line["tags"] == tags
    assert line["entities"] == [
        {"type": "LOC", "start": 0, "end": 2, "text": "New York", "probability": 0.25},
        {"type": "PER", "start": 3, "end": 4, "text": "Ann", "probability": 0.5},
    ]


def lines_of(*tags: str) -> list[dict[str, Any]]:
    names = {"P": "B-PER", "p": "I-PER", "L": "B-LOC", "l": "I-LOC", "o": "O"}
    return [{"tags": [names[letter] for letter in word], "tokens": list(word)} for word in tags]


def test_scores_worked_by_hand() -> None:
    gold, guess = lines_of("Ppo", "oLl", "Poo"), lines_of("ppo", "oLo", "Poo")
    scores = TASK.score(gold, guess)
    # Default: an I- begins an entity, so row 1 is right; row 2 is wrong by its end: 2 of 3.
    assert scores.metrics["precision"] == pytest.approx(2 / 3)
    assert scores.metrics["f1"] == pytest.approx(2 / 3)
    # Strict: row 1 has no entity at all: 1 of 2 predicted, 1 of 3 gold.
    assert scores.metrics["precision_strict"] == pytest.approx(1 / 2)
    assert scores.metrics["recall_strict"] == pytest.approx(1 / 3)
    assert scores.metrics["f1_strict"] == pytest.approx(2 / 5)
    assert scores.detail["types"]["PER"] == {
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
        "support": 2,
    }
    assert scores.detail["types"]["LOC"]["f1"] == 0.0


def test_statistics_give_the_same_scores() -> None:
    draw = random.Random(1)
    words = ["".join(draw.choice("PpLlo") for _ in range(8)) for _ in range(60)]
    gold, guess = lines_of(*words[:30]), lines_of(*words[30:])
    totals = TASK.row_statistics(gold, guess).sum(axis=0)
    found = {name: float(value) for name, value in TASK.from_statistics(totals).items()}
    assert found == pytest.approx(TASK.score(gold, guess).metrics)


def test_standard_error_is_seeded_and_shrinks_with_rows() -> None:
    gold, guess = lines_of("Po", "Lo", "oP", "oo"), lines_of("Po", "oo", "oP", "oL")
    small = TASK.score(gold, guess).standard_error
    assert small == TASK.score(gold, guess).standard_error
    large = TASK.score(gold * 25, guess * 25).standard_error
    assert small is not None
    assert large == pytest.approx(small / 5, rel=0.25)


def test_majority_is_no_entity() -> None:
    gold = lines_of("Ppo")
    lines = TASK.majority([], gold)
    assert lines == [{"tags": ["O", "O", "O"], "entities": []}]
    assert TASK.score(gold, lines or []).metrics["f1"] == 0.0
    # Rows without any entity, which seqeval itself cannot score.
    assert TASK.score(lines_of("oo"), lines_of("oo")).metrics["f1"] == 0.0
