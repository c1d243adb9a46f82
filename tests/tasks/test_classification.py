from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ptv2_cli.errors import ConfigError, InputError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.template import default_template, parse_template
from ptv2_cli.tasks.catalog import load_definition, load_task
from ptv2_cli.tasks.classification import Classification

ROWS = [
    {"premise": "the cat sat on the mat .", "hypothesis": "the cat sat .", "label": "entailment"},
    {"premise": "Bob likes the big red dog", "hypothesis": "Ann", "label": "not_entailment"},
    {"premise": "it", "hypothesis": "who is it ?"},
]


@pytest.mark.parametrize("name", ["wordpiece", "roberta"])
@pytest.mark.parametrize("max_len", [64, 12, 11])
@pytest.mark.parametrize("truncation", ["longest_first", "only_first"])
def test_inputs_are_the_tokenizers_own(
    name: str, max_len: int, truncation: Any, request: Any
) -> None:
    tokenizer = request.getfixturevalue(name)
    encoder = Encoder(tokenizer, max_len, truncation)
    rows = ROWS[:1] if truncation == "only_first" else ROWS
    for row, feature in zip(rows, load_task("superglue/rte").encode(rows, encoder), strict=True):
        expected = tokenizer(
            row["premise"], row["hypothesis"], truncation=truncation, max_length=max_len
        )
        assert feature.input_ids == expected["input_ids"]
        assert feature.token_type_ids == expected.get("token_type_ids")
        whole = tokenizer(row["premise"], row["hypothesis"])["input_ids"]
        assert feature.truncated == (len(whole) > max_len)


def test_labels_and_truncated_rows(wordpiece: Any) -> None:
    features = load_task("superglue/rte").encode(ROWS, Encoder(wordpiece, 12))
    assert [feature.label for feature in features] == [0, 1, None]
    assert [feature.row for feature in features] == [0, 1, 2]
    assert features.truncated_rows == 1


def test_only_second_cuts_the_passage_alone(wordpiece: Any) -> None:
    row = {"question": "who sat on the mat", "passage": "the cat sat on the mat"}
    encoder = Encoder(wordpiece, 12, "only_second")
    tokens = wordpiece.convert_ids_to_tokens(
        load_task("superglue/boolq").encode([row], encoder)[0].input_ids
    )
    assert " ".join(tokens) == "[CLS] who sat on the mat [SEP] the cat sat on [SEP]"


def test_only_second_of_one_text_is_refused(wordpiece: Any) -> None:
    definition = load_definition("superglue/rte").model_copy(update={"text": ("premise",)})
    task = Classification("one/text", definition, Classification.options_model())
    with pytest.raises(ConfigError, match=r"task\.truncation"):
        task.encode(ROWS, Encoder(wordpiece, 12, "only_second"))
    feature = task.encode(ROWS, Encoder(wordpiece, 12))[0]
    assert feature.input_ids == wordpiece(ROWS[0]["premise"])["input_ids"]


def test_template(wordpiece: Any) -> None:
    template = default_template(("premise", "hypothesis"), 7, with_mask=True)
    encoder = Encoder(wordpiece, 10, template=template)
    feature = load_task("superglue/rte").encode(ROWS[:1], encoder)[0]
    tokens = wordpiece.convert_ids_to_tokens(feature.input_ids)
    # Ten tokens of text and specials, and seven slots beside them.
    assert " ".join(tokens) == (
        "[CLS] [PAD] [PAD] [PAD] the cat sat on [PAD] [PAD] the cat sat [PAD] [PAD] [MASK] [SEP]"
    )
    assert feature.slots == [-1, 0, 1, 2, -1, -1, -1, -1, 3, 4, -1, -1, -1, 5, 6, -1, -1]
    assert feature.mask_at == 15
    assert feature.truncated


def test_template_order_does_not_change_what_is_cut(wordpiece: Any) -> None:
    template = parse_template("{p:1} {hypothesis} {p:1} {premise}", ("premise", "hypothesis"))
    encoder = Encoder(wordpiece, 9, "only_first", template)
    feature = load_task("superglue/rte").encode(ROWS[:1], encoder)[0]
    tokens = wordpiece.convert_ids_to_tokens(feature.input_ids)
    assert " ".join(tokens) == "[CLS] [PAD] the cat sat . [PAD] the cat sat [SEP]"


def outputs(*rows: list[float]) -> list[dict[str, Any]]:
    return [{"probabilities": np.array(row, dtype=np.float32)} for row in rows]


def test_decode(wordpiece: Any) -> None:
    task = load_task("superglue/rte")
    features = task.encode(ROWS, Encoder(wordpiece, 32))
    lines = task.decode(ROWS, features, outputs([0.25, 0.75], [0.5, 0.5], [1, 0]), {})
    assert lines == [
        {"label": "not_entailment", "probabilities": {"entailment": 0.25, "not_entailment": 0.75}},
        {"label": "entailment", "probabilities": {"entailment": 0.5, "not_entailment": 0.5}},
        {"label": "entailment", "probabilities": {"entailment": 1.0, "not_entailment": 0.0}},
    ]


def lines_of(labels: str) -> list[dict[str, Any]]:
    names = {"e": "entailment", "c": "contradiction", "n": "neutral"}
    return [{"label": names[letter]} for letter in labels]


def test_scores_of_cb_worked_by_hand() -> None:
    task = load_task("superglue/cb")
    scores = task.score(lines_of("eeeecc"), lines_of("eeencc"))
    # e: p 3/3, r 3/4, f1 6/7; c: 1; n: predicted once, never gold, f1 0. Mean over the three.
    assert scores.metrics["accuracy"] == pytest.approx(5 / 6)
    assert scores.metrics["f1_macro"] == pytest.approx((6 / 7 + 1 + 0) / 3)
    assert scores.detail["classes"]["entailment"] == {
        "precision": 1.0,
        "recall": 0.75,
        "f1": pytest.approx(6 / 7),
        "support": 4,
    }
    assert scores.detail["confusion"]["entailment"] == {
        "entailment": 3,
        "contradiction": 0,
        "neutral": 1,
    }
    # Five ones and a zero: sd = sqrt(1/6), over sqrt(6).
    assert scores.standard_error == pytest.approx(1 / 6)
    assert 0 < scores.standard_errors["f1_macro"] < 0.3


def test_a_class_that_never_occurs_is_left_out_of_macro_f1() -> None:
    from sklearn.metrics import f1_score

    task = load_task("superglue/cb")
    gold, guess = "eeecc", "eeccc"
    score = task.score(lines_of(gold), lines_of(guess)).metrics["f1_macro"]
    assert score == pytest.approx(f1_score(list(gold), list(guess), average="macro"))


def test_statistics_give_the_same_scores() -> None:
    task = load_task("superglue/cb")
    gold, guess = lines_of("eeeeccnn"), lines_of("eenccnnn")
    totals = task.row_statistics(gold, guess).sum(axis=0)
    found = {name: float(value) for name, value in task.from_statistics(totals).items()}
    assert found == pytest.approx(task.score(gold, guess).metrics)


def test_score_needs_gold() -> None:
    task = load_task("superglue/rte")
    assert task.gold(ROWS[2]) is None
    with pytest.raises(InputError, match="row 3 of 3 has no gold answer"):
        task.score(ROWS, lines_of("eee"))
    with pytest.raises(InputError, match="no rows"):
        task.score([], [])


def test_majority_is_the_most_frequent_train_class() -> None:
    task = load_task("superglue/cb")
    line = (task.majority(lines_of("ecnnc"), lines_of("ee")) or [])[1]
    assert line["label"] == "contradiction"
    assert line["probabilities"] == {"entailment": 0.2, "contradiction": 0.4, "neutral": 0.4}
    assert task.majority([{"premise": "x"}], lines_of("e")) is None
