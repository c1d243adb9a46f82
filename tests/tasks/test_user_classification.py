from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.data.source import NamedSource
from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.tasks.catalog import load_task

ROWS = [
    {"review": "the cat", "stars": "2", "id": "7"},
    {"review": "the dog", "stars": "10", "id": "8"},
]


def csv_text(rows: list[dict[str, Any]]) -> str:
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


def own(**options: Any) -> Any:
    return load_task("text/classification", {"text": "review", "label": "stars", **options})


def fails(task: Any, source: Any, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        task.read(source, split)
    return str(caught.value)


def test_labels_are_found_in_train_and_fixed(corpus: Any) -> None:
    corpus.put("train.csv", csv_text([*ROWS, {"review": "x", "stars": " 2", "id": "9"}]))
    task = own().settle(corpus.source)
    assert task.labels == ("2", "10")  # whole numbers by value
    assert task.options.labels == ("2", "10")
    (corpus.path / "train.csv").unlink()
    assert task.settle(corpus.source) is task


@pytest.mark.parametrize(
    ("found", "ordered"),
    [
        ({"b", "A", "a"}, ("A", "a", "b")),
        ({"好", "坏"}, ("坏", "好")),
        ({"-1", "10", "9"}, ("-1", "9", "10")),
    ],
)
def test_order_of_labels(found: set[str], ordered: tuple[str, ...]) -> None:
    from ptv2_cli.tasks.user_data import in_order

    assert in_order(found) == ordered


def test_rows_keep_their_other_columns(corpus: Any) -> None:
    corpus.put("train.csv", csv_text(ROWS))
    rows = own().settle(corpus.source).read(corpus.source, "train").rows
    assert rows[1] == {"review": "the dog", "label": "10", "id": "8"}


def test_a_foreign_column_called_label_is_not_the_answer(corpus: Any) -> None:
    corpus.put("train.csv", csv_text([row | {"label": "x"} for row in ROWS]))
    corpus.put("test.csv", "review,label\nthe cat,x\n")
    task = own().settle(corpus.source)
    assert [row["label"] for row in task.read(corpus.source, "train").rows] == ["2", "10"]
    assert task.gold(task.read(corpus.source, "test").rows[0]) is None


def test_jsonl_labels_may_be_numbers_and_booleans(corpus: Any) -> None:
    corpus.put("train.jsonl", [{"review": "a", "stars": True}, {"review": "b", "stars": False}])
    task = own().settle(corpus.source)
    assert task.labels == ("false", "true")
    assert task.read(corpus.source, "train").rows[0]["label"] == "true"


def test_a_pair_of_chinese_columns(corpus: Any) -> None:
    from transformers import BertTokenizerFast

    signs = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天下雨了吗是的"]
    tokenizer = BertTokenizerFast(vocab={sign: at for at, sign in enumerate(dict.fromkeys(signs))})
    corpus.put("train.csv", "问题,回答,标签\n今天下雨了吗,是的,对\n下雨了吗,吗,错\n")
    options = {"text": ["问题", "回答"], "label": "标签"}
    task = load_task("text/classification", options).settle(corpus.source)
    rows = task.read(corpus.source, "train").rows
    feature = task.encode(rows, Encoder(tokenizer, 32))[0]
    tokens = tokenizer.convert_ids_to_tokens(feature.input_ids)
    assert "".join(tokens) == "[CLS]今天下雨了吗[SEP]是的[SEP]"
    assert (task.labels, feature.label) == (("对", "错"), 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"text": ["a", "b", "c"]}, "one column or two"),
        ({"text": []}, "one column or two"),
        ({"text": "stars"}, "the gold answer's column 'stars' is a column of task.text"),
        ({"text": ["a", "b"], "label": "b"}, "a column of task.text too"),
        ({"labels": ["one"]}, "two or more different labels"),
    ],
)
def test_impossible_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        own(**options)


def test_missing_column_names_header_and_the_nearest(corpus: Any) -> None:
    path = corpus.put("train.csv", csv_text(ROWS))
    text = fails(own(text="Reviews", labels=["2", "10"]), corpus.source)
    assert f"{path}:1: no column 'Reviews'" in text
    assert "did you mean 'review'? columns here: review, stars, id" in text
    text = fails(own(label="star", labels=["2", "10"]), corpus.source)
    assert f"{path}:1: no column 'star'" in text
    with pytest.raises(DataError, match="no column 'star'"):
        own(label="star").settle(corpus.source)


def test_a_label_that_train_has_not(corpus: Any) -> None:
    corpus.put("train.csv", csv_text([row | {"stars": f"class{row['stars']}"} for row in ROWS]))
    path = corpus.put("dev.csv", csv_text([ROWS[0] | {"stars": "clas2"}]))
    text = fails(own().settle(corpus.source), corpus.source, "validation")
    assert f"{path}:2: label 'clas2' is none of the task's" in text
    assert "did you mean 'class2'? labels of this task: class10, class2" in text


@pytest.mark.parametrize("empty", ["", "  "])
def test_empty_text_and_empty_label_name_the_line(corpus: Any, empty: str) -> None:
    path = corpus.put("train.csv", csv_text([*ROWS, ROWS[0] | {"review": empty}]))
    assert f"{path}:4: column 'review' is empty" in fails(own(labels=["2", "10"]), corpus.source)
    corpus.put("train.csv", csv_text([*ROWS, ROWS[0] | {"stars": empty}]))
    text = fails(own(labels=["2", "10"]), corpus.source)
    assert f"{path}:4: column 'stars' is empty: no label" in text


def test_columns_that_are_no_classes(corpus: Any) -> None:
    path = corpus.put("train.csv", csv_text([ROWS[0]] * 3))
    with pytest.raises(DataError, match=f"{path}: column 'stars' holds '2' in every row"):
        own().settle(corpus.source)
    corpus.put("train.csv", csv_text([ROWS[0] | {"stars": n / 7} for n in range(60)]))
    with pytest.raises(DataError, match="holds 60 different labels in 60 rows") as caught:
        own().settle(corpus.source)
    assert "text/regression" in str(caught.value)


def test_files_given_one_by_one(corpus: Any) -> None:
    train = corpus.put("mine.csv", csv_text(ROWS))
    source = NamedSource({"train": train})
    assert source.files("train") == (train,)
    assert source.files("validation") == ()
    both = NamedSource({"train": train}, corpus.source)
    assert both.files("test") == ()
    corpus.put("test.csv", csv_text(ROWS))
    assert [path.name for path in both.files("test")] == ["test.csv"]
    lost = NamedSource({"test": corpus.path / "mine.cvs"})
    with pytest.raises(DataError, match="there is no such file") as caught:
        lost.files("test")
    assert "did you mean mine.csv?" in str(caught.value)


def test_sst2_reads_the_official_files() -> None:
    data = os.environ.get("PTV2_DATA")
    if not data or not (Path(data) / "sst2").is_dir():
        pytest.skip("PTV2_DATA names no folder with sst2")
    from ptv2_cli.data.source import FolderSource

    task, source = load_task("glue/sst2"), FolderSource(Path(data) / "sst2")
    rows = task.read(source, "validation").rows
    assert len(rows) == 872
    assert rows[0] == {"sentence": "one long string of cliches .", "label": "negative"}
    assert sum(row["label"] == "positive" for row in rows) == 444


def test_sst2_of_a_file_made_here(corpus: Any) -> None:
    corpus.put("dev.tsv", 'sentence\tlabel\na "fine film \t1\nbad\t0\n')
    corpus.put("test.tsv", "index\tsentence\n0\tgood .\n")
    task = load_task("glue/sst2")
    rows = task.read(corpus.source, "validation").rows
    assert [row["label"] for row in rows] == ["positive", "negative"]
    assert rows[0]["sentence"] == 'a "fine film '
    assert task.read(corpus.source, "test").rows == [{"index": "0", "sentence": "good ."}]
