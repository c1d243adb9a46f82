"""The shape of questions with choices, on rows as COPA's files have them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ptv2_cli.errors import DataError, InputError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.template import default_template, parse_template
from ptv2_cli.tasks.choice import Choice, ChoiceOptions
from ptv2_cli.tasks.definition import Definition

COPA = Definition.model_validate(
    {
        "shape": "choice",
        "version": 1,
        "text": ["premise"],
        "choices": ["choice1", "choice2"],
        "joiner": {"column": "question", "words": {"cause": "because", "effect": "so"}},
        "label": "label",
        "values": {"choice1": "0", "choice2": "1"},
        "metrics": ["accuracy"],
        "metric": "accuracy",
        "report": ["validation"],
        "max_len": 32,
        "truncation": "only_first",
    }
)
ROWS = [
    {"premise": "the cat sat", "choice1": "it is big", "choice2": "a dog", "question": "cause",
     "label": 1, "idx": 0},
    {"premise": "ann likes a mat", "choice1": "bob", "choice2": "who is it", "question": "effect",
     "label": 0, "idx": 1},
]  # fmt: skip


def copa(**changes: Any) -> Choice:
    return Choice("superglue/copa", COPA.model_copy(update=changes), ChoiceOptions())


@pytest.fixture
def rows(corpus: Any) -> list[dict[str, Any]]:
    corpus.put("train.jsonl", ROWS)
    return copa().read(corpus.source, "train").rows


def fails(corpus: Any, row: dict[str, Any]) -> str:
    corpus.put("train.jsonl", [ROWS[0], row])
    with pytest.raises(DataError) as caught:
        copa().read(corpus.source, "train")
    return str(caught.value)


def test_rows_are_as_in_the_files(rows: list[dict[str, Any]], corpus: Any) -> None:
    assert rows == ROWS
    corpus.put("test.jsonl", [{k: v for k, v in ROWS[0].items() if k != "label"}])
    assert copa().gold(copa().read(corpus.source, "test").rows[0]) is None
    # As the hub's parquet file names the classes.
    corpus.put("val.jsonl", [ROWS[0] | {"label": "choice2"}])
    assert copa().read(corpus.source, "validation").rows[0]["label"] == 1


def test_a_row_is_one_feature_of_two_pairs(rows: list[dict[str, Any]], wordpiece: Any) -> None:
    first, second = copa(text=("premise",)).encode(rows, Encoder(wordpiece, 32))
    assert first.choices is not None
    texts = [wordpiece.decode(item.input_ids) for item in first.choices]
    # [UNK] is "because", which the tiny vocabulary does not have.
    assert texts == ["[CLS] the cat sat [UNK] [SEP] it is big [SEP]",
                     "[CLS] the cat sat [UNK] [SEP] a dog [SEP]"]  # fmt: skip
    assert first.choices[0].token_type_ids == [0] * 6 + [1] * 4
    assert (first.row, first.label, second.row, second.label) == (0, 1, 1, 0)
    assert {item.row for item in second.inputs} == {1}
    assert first.input_ids == first.choices[0].input_ids  # the longest
    assert second.input_ids == second.choices[1].input_ids  # type: ignore[index]


def test_the_joiner_follows_the_text(gpt2: Any, rows: list[dict[str, Any]]) -> None:
    texts = [
        gpt2.decode(item.input_ids)
        for feature in copa().encode(rows, Encoder(gpt2, 32))
        for item in feature.inputs
    ]
    assert texts == [
        "the cat sat because it is big",
        "the cat sat because a dog",
        "ann likes a mat so bob",
        "ann likes a mat so who is it",
    ]


def test_a_template_has_choice_as_a_column(rows: list[dict[str, Any]], wordpiece: Any) -> None:
    task = copa()
    assert task.columns == ("premise", "choice")
    template = parse_template("{p:2} {choice} {p:1} {premise} {mask}", task.columns)
    feature = task.encode(rows, Encoder(wordpiece, 32, template=template))[0]
    for item, length in zip(feature.inputs, (3, 2), strict=True):
        assert item.slots == [-1, 0, 1] + [-1] * length + [2] + [-1] * 6
        assert item.mask_at == 3 + length + 1 + 4
        assert item.input_ids[item.mask_at] == wordpiece.mask_token_id
    spread = default_template(task.columns, 6, True)
    assert spread.source == "{p:2} {premise} {p:2} {choice} {p:2} {mask}"


def test_of_two_texts_the_second_stands_before_each_choice(wordpiece: Any) -> None:
    task = copa(text=("premise", "question"), joiner=None)
    row = {**ROWS[0], "question": "who sat ?"}
    feature = task.encode([row], Encoder(wordpiece, 32))[0]
    texts = [wordpiece.decode(item.input_ids) for item in feature.inputs]
    assert texts == ["[CLS] the cat sat [SEP] who sat? it is big [SEP]",
                     "[CLS] the cat sat [SEP] who sat? a dog [SEP]"]  # fmt: skip
    template = parse_template("{question} {choice} {p:1} {premise}", task.columns)
    shown = task.encode([row], Encoder(wordpiece, 32, template=template))[0].inputs[1]
    assert wordpiece.decode([i for i in shown.input_ids if i]) == (
        "[CLS] who sat? a dog the cat sat [SEP]"
    )


def test_the_text_is_cut_and_not_the_choice(wordpiece: Any) -> None:
    row = {**ROWS[0], "premise": "the cat " * 20}
    feature = copa().encode([row], Encoder(wordpiece, 12, "only_first"))[0]
    ends = [wordpiece.decode(item.input_ids).split("[SEP]")[1].strip() for item in feature.inputs]
    assert ends == ["it is big", "a dog"]
    assert feature.truncated
    assert [len(item.input_ids) for item in feature.inputs] == [12, 12]
    assert not copa().encode(ROWS, Encoder(wordpiece, 32))[0].truncated


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": 2}, ["train.jsonl:2: label 2 in a row of 2 choices", "last of this row is 1"]),
        ({"label": -1}, ["train.jsonl:2: label -1 in a row of 2 choices"]),
        ({"label": "b"}, ["train.jsonl:2: label 'b' is no index of a choice"]),
        ({"label": True}, ["train.jsonl:2: label True is no index of a choice"]),
        ({"label": 0.0}, ["train.jsonl:2: label 0.0 is no index of a choice"]),
        ({"question": "why"}, ["train.jsonl:2: label 'why'"]),
        ({"choice2": 5}, ["train.jsonl:2: choice 1 is 5", "texts in quotes"]),
        ({"choice1": " "}, ["train.jsonl:2: choice 0 is empty"]),
        ({"choice2": ""}, ["train.jsonl:2: 1 choice", "needs two or more"]),
    ],
)  # fmt: skip
def test_bad_rows(corpus: Any, changes: dict[str, Any], says: list[str]) -> None:
    text = fails(corpus, {**ROWS[1], **changes})
    for part in says:
        assert part in text


def test_a_missing_column_is_named(corpus: Any) -> None:
    row = {k: v for k, v in ROWS[1].items() if k != "choice2"}
    assert "train.jsonl:2: no column 'choice2'" in fails(corpus, row)
    assert "did you mean 'choice1'" in fails(corpus, row)


def outputs(*probabilities: list[float]) -> list[dict[str, Any]]:
    return [{"probabilities": np.array(found, dtype=np.float32)} for found in probabilities]


def test_answers_are_indices(rows: list[dict[str, Any]], wordpiece: Any) -> None:
    features = copa().encode(rows, Encoder(wordpiece, 32))
    lines = copa().decode(rows, features, outputs([0.25, 0.75], [0.5, 0.5]), {})
    assert lines == [{"label": 1, "probabilities": {"0": 0.25, "1": 0.75}},
                     {"label": 0, "probabilities": {"0": 0.5, "1": 0.5}}]  # fmt: skip
    backwards = copa().decode(rows, features[::-1], outputs([0, 1], [1, 0]), {})
    assert [line["label"] for line in backwards] == [0, 1]


def guesses(*labels: int) -> list[dict[str, Any]]:
    return [{"label": label} for label in labels]


def test_scores() -> None:
    rows = [{**ROWS[0], "label": label} for label in (0, 1, 1, 0)]
    found = copa().score(rows, guesses(0, 1, 0, 0))
    assert found.metrics == {"accuracy": 0.75}
    # Sample deviation of (1, 1, 0, 1) over the root of 4.
    assert found.standard_error == pytest.approx(0.25)
    assert found.detail["confusion"] == {"0": {"0": 2, "1": 0}, "1": {"0": 1, "1": 1}}
    assert found.detail["choices"]["0"]["precision"] == pytest.approx(2 / 3)
    assert found.detail["choices"]["1"] == {
        "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2,
    }  # fmt: skip
    sums = copa().row_statistics(rows, guesses(0, 1, 0, 0)).sum(axis=0)
    assert copa().from_statistics(sums) == {"accuracy": 0.75}
    with pytest.raises(InputError, match="row 1 of 1 has no gold answer"):
        copa().score([{"premise": "x"}], guesses(0))


def test_majority_is_the_place_that_is_most_often_right() -> None:
    train = [{**ROWS[0], "label": label} for label in (1, 1, 0)]
    (line,) = copa().majority(train, ROWS[:1]) or []
    assert line["label"] == 1
    assert line["probabilities"] == pytest.approx({"0": 1 / 3, "1": 2 / 3})
    listed = replace_choices(copa(), ("options",))
    many = [{"options": ["a", "b", "c"], "label": 2}] * 3 + [{"options": ["a", "b"], "label": 1}]
    assert [line["label"] for line in listed.majority(many, many) or []] == [2, 2, 2, 1]
    nothing = listed.majority([{"options": ["a", "b", "c"], "label": 2}], [{"options": ["a", "b"]}])
    assert nothing == [{"label": 0, "probabilities": {"0": 0.5, "1": 0.5}}]
    assert copa().majority([{"premise": "x"}], ROWS) is None


def replace_choices(task: Choice, columns: tuple[str, ...]) -> Choice:
    definition = task.definition.model_copy(update={"choices": columns, "joiner": None})
    return Choice(task.name, definition, ChoiceOptions())


def test_new_rows_need_no_label(corpus: Any) -> None:
    from ptv2_cli.data.formats import RawRow

    line = RawRow({**ROWS[0], "label": "nonsense"}, corpus.path / "new.jsonl", 1)
    assert copa().new_row(line) == {k: v for k, v in ROWS[0].items() if k != "label"}
    with pytest.raises(DataError, match=r"new\.jsonl:1: choice 0 is empty"):
        copa().new_row(replace(line, values={**ROWS[0], "choice1": ""}))
