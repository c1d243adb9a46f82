from __future__ import annotations

import json
from typing import Any

import pytest

from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.tasks.catalog import load_task

TABLE = """id,question,a,b,c,answer
1,who sat ?,the cat,a dog,,0
2,who is big ?,ann,bob,the mat,2
3,who ran ?,the dog,bob,,1
"""
LISTED = [
    {"text": "who sat ?", "choices": ["the cat", "a dog"], "label": 0},
    {"text": "who is big ?", "choices": ["ann", "bob", "the mat"], "label": 2},
]
COLUMNS = {"text": "question", "choices": ["a", "b", "c"], "label": "answer"}


def own(**options: Any) -> Any:
    return load_task("text/choice", options)


def fails(task: Any, corpus: Any, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        task.settle(corpus.source).read(corpus.source, split)
    return str(caught.value)


def test_a_table_has_a_column_for_each_choice(corpus: Any) -> None:
    corpus.put("train.csv", TABLE)
    task = own(**COLUMNS).settle(corpus.source)
    assert task.options.label_is == "index"
    assert task.found == "answer: the index of the right choice, from 0"
    rows = task.read(corpus.source, "train").rows
    assert [row["label"] for row in rows] == [0, 2, 1]
    assert rows[1] == {"id": "2", "question": "who is big ?", "a": "ann", "b": "bob",
                       "c": "the mat", "label": 2}  # fmt: skip
    assert task.gold_columns == ("answer",)
    assert task.columns == ("question", "choice")
    # Settled, it reads no train file.
    (corpus.path / "train.csv").unlink()
    assert task.settle(corpus.source) is task


def test_jsonl_lists_them(corpus: Any, wordpiece: Any) -> None:
    from ptv2_cli.inputs.encoder import Encoder

    corpus.put("train.jsonl", LISTED)
    task = own().settle(corpus.source)
    rows = task.read(corpus.source, "train").rows
    assert rows == LISTED
    features = task.encode(rows, Encoder(wordpiece, 32))
    assert [len(feature.inputs) for feature in features] == [2, 3]
    assert wordpiece.decode(features[1].inputs[2].input_ids) == (
        "[CLS] who is big? [SEP] the mat [SEP]"
    )


def test_the_label_may_be_the_chosen_text(corpus: Any) -> None:
    texts = TABLE.replace(",,0", ",,the cat").replace(",2\n", ", the mat \n")
    corpus.put("train.csv", texts.replace(",,1", ",,bob"))
    task = own(**COLUMNS).settle(corpus.source)
    assert task.options.label_is == "text"
    assert task.found == "answer: the right choice's text"
    assert [row["label"] for row in task.read(corpus.source, "train").rows] == [0, 2, 1]


def rows_of(*rows: tuple[list[str], Any]) -> list[dict[str, Any]]:
    return [{"text": "x", "choices": choices, "label": label} for choices, label in rows]


def test_numbers_among_numbers(corpus: Any) -> None:
    """Texts that are numbers are indices only where all rows may be."""
    corpus.put("train.jsonl", rows_of((["1", "2"], "1"), (["3", "4"], "4")))
    assert own().settle(corpus.source).options.label_is == "text"
    corpus.put("train.jsonl", rows_of((["0", "1"], "1"), (["0", "1"], "0")))
    assert own().settle(corpus.source).options.label_is == "index"  # both say the same
    corpus.put("train.jsonl", rows_of((["1", "2"], 1), (["1", "0"], 0)))
    assert own().settle(corpus.source).options.label_is == "index"  # JSON's own numbers


def test_a_label_that_may_be_both(corpus: Any) -> None:
    path = corpus.put("train.jsonl", rows_of((["0", "1"], "1"), (["1", "0"], "1")))
    text = fails(own(), corpus)
    assert f"{path}:2: label '1' may be the index of one choice or the text of another" in text
    assert "task.label_is: index, or text" in text
    assert [r["label"] for r in own(label_is="text").read(corpus.source, "train").rows] == [
        1,
        0,
    ]
    assert [r["label"] for r in own(label_is="index").read(corpus.source, "train").rows] == [
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(["a", "b"], 0), (["a", "b"], 2)], "train.jsonl:2: label 2 in a row of 2 choices"),
        ([(["a", "b"], 0), (["a", "b"], "b")], "train.jsonl:2: label 'b' is no index of a choice"),
        ([(["a", "b"], "a"), (["a", "b"], "c")],
         "train.jsonl:2: label 'c' is the text of none of the choices: 'a', 'b'"),
        ([(["a", "b"], "a"), (["a", "b"], "0")], "train.jsonl:2: label '0' is the text of none"),
        ([(["a", "a"], "a")], "train.jsonl:1: label 'a' is the text of 2 choices"),
        ([(["a", "b"], 3)], "train.jsonl:1: label 3 in a row of 2 choices"),
        ([(["a", "b"], "c")], "train.jsonl:1: label 'c' is the text of none of the choices"),
        ([(["a", "b"], None)], "train.jsonl:1: column 'label' is empty: no label"),
        ([(["a"], 0)], "train.jsonl:1: 1 choice"),
        ([([], 0)], "train.jsonl:1: 0 choices"),
        ([(["a", ""], 0)], "train.jsonl:1: choice 1 is empty"),
        ([("a or b", 0)], "train.jsonl:1: column 'choices' holds 'a or b': no list of choices"),
    ],
)  # fmt: skip
def test_bad_labels_and_choices(corpus: Any, rows: list[Any], says: str) -> None:
    corpus.put("train.jsonl", rows_of(*rows))
    assert says in fails(own(), corpus)


def test_validation_is_read_as_train_is(corpus: Any) -> None:
    corpus.put("train.csv", TABLE)
    path = corpus.put("dev.csv", TABLE.replace(",,0", ",,the cat"))
    text = fails(own(**COLUMNS), corpus, "validation")
    assert f"{path}:2: label 'the cat' is no index of a choice" in text
    assert "the first choice is 0, the last of this row is 1" in text
    corpus.put("test.csv", TABLE.replace("answer", "other"))
    task = own(**COLUMNS).settle(corpus.source)
    assert {task.gold(row) for row in task.read(corpus.source, "test").rows} == {None}


def test_an_empty_cell_before_a_choice(corpus: Any) -> None:
    path = corpus.put("train.csv", TABLE.replace("ann,bob,the mat", "ann,,the mat"))
    assert f"{path}:3: choice 1 is empty" in fails(own(**COLUMNS), corpus)


def test_a_missing_column_names_the_header(corpus: Any) -> None:
    path = corpus.put("train.csv", TABLE)
    text = fails(own(**{**COLUMNS, "choices": ["a", "B"]}), corpus)
    assert f"{path}:1: no column 'B'" in text
    assert "did you mean 'b'?" in text
    text = fails(own(**{**COLUMNS, "choices": "a"}), corpus)
    assert "column 'a' holds 'the cat': no list of choices" in text
    assert "task.choices: [COLUMN, COLUMN]" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"text": "choice"}, "what templates call a choice's text"),
        ({"choices": []}, "that are neither text nor label"),
        ({"choices": ["a", "a"]}, "that are neither text nor label"),
        ({"choices": ["text", "b"]}, "that are neither text nor label"),
        ({"choices": ["b", "right"], "label": "right"}, "that are neither text nor label"),
        ({"text": ["a", "b", "c"]}, "one column or two"),
        ({"label_is": "number"}, "label_is"),
    ],
)
def test_impossible_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        own(**options)


def test_chinese(corpus: Any) -> None:
    text = json.dumps({"题": "谁在这里？", "选项": ["他", "我"], "答": "我"}, ensure_ascii=False)
    corpus.put("train.jsonl", text + "\n")
    task = own(text="题", choices="选项", label="答").settle(corpus.source)
    assert task.read(corpus.source, "train").rows[0]["label"] == 1
