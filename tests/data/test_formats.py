from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from squad_text import squad_json

from ptv2_cli.data.conll import read_columns
from ptv2_cli.data.formats import read_jsonl, read_parquet
from ptv2_cli.data.text_decoding import open_text
from ptv2_cli.errors import DataError
from ptv2_cli.tasks.catalog import load_task

RTE = {"premise": "Ann sat.", "hypothesis": "Ann.", "label": "entailment"}


def fails(task: str, source: Any, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        load_task(task).read(source, split)
    return str(caught.value)


def test_jsonl_rows_keep_their_columns(corpus: Any) -> None:
    corpus.put("train.jsonl", [RTE | {"idx": 4}])
    split = load_task("superglue/rte").read(corpus.source, "train")
    assert split.rows == [RTE | {"idx": 4}]
    assert split.files == (corpus.path / "train.jsonl",)


def test_a_line_separator_inside_json_text_is_no_line_end(corpus: Any) -> None:
    text = json.dumps(RTE | {"premise": "one\u2028two"}, ensure_ascii=False)
    path = corpus.put("train.jsonl", f"\ufeff{text}\r\n\n{text}")
    assert [line.number for line in read_jsonl(open_text(path))] == [1, 3]


def test_bad_jsonl_line_is_named(corpus: Any) -> None:
    path = corpus.put("train.jsonl", json.dumps(RTE) + "\n{'premise': 1}\n")
    text = fails("superglue/rte", corpus.source)
    assert f"{path}:2: no JSON" in text
    assert "{'premise': 1}" in text


def test_a_jsonl_line_must_be_an_object(corpus: Any) -> None:
    path = corpus.put("train.jsonl", "[1, 2]\n")
    assert f"{path}:1: no JSON object" in fails("superglue/rte", corpus.source)


def test_label_outside_the_set_lists_the_labels(corpus: Any) -> None:
    path = corpus.put("train.jsonl", [RTE, RTE | {"label": "neutral"}])
    text = fails("superglue/rte", corpus.source)
    assert f"{path}:2: label 'neutral'" in text
    assert "entailment, not_entailment" in text


def test_missing_column_lists_the_columns(corpus: Any) -> None:
    path = corpus.put("train.jsonl", [{"premise": "x", "text": "y", "label": "entailment"}])
    text = fails("superglue/rte", corpus.source)
    assert f"{path}:1: no column 'hypothesis'" in text
    assert "premise, text, label" in text


@pytest.mark.parametrize("name", ["train.jsonl", "train.json"])
def test_nested_brackets(corpus: Any, name: str) -> None:
    """What reads them further, down to the predictions, is recursive."""
    deep = json.dumps(RTE)[:-1] + ', "x": ' + "[" * 480 + "]" * 480 + "}"
    path = corpus.put(name, f"[{deep}]" if name.endswith(".json") else deep)
    settings = {"text": ["premise", "hypothesis"]}
    with pytest.raises(DataError, match="nested more than 100 deep"):
        load_task("text/classification", settings).settle(corpus.source)
    path.write_text(path.read_text().replace("[" * 430, "").replace("]" * 430, ""))
    with pytest.raises(DataError, match="holds 'entailment' in every row"):
        load_task("text/classification", settings).settle(corpus.source)


def test_a_text_column_must_hold_text(corpus: Any) -> None:
    corpus.put("train.jsonl", [RTE | {"premise": None}])
    assert "column 'premise' holds None" in fails("superglue/rte", corpus.source)


def test_rows_after_the_limit_are_not_read(corpus: Any) -> None:
    corpus.put("train.jsonl", [RTE, RTE | {"label": "bad"}])
    assert len(load_task("superglue/rte").read(corpus.source, "train", 1).rows) == 1


def test_boolq_labels_are_json_booleans(corpus: Any) -> None:
    rows = [{"question": "q", "passage": "p", "label": flag} for flag in (True, False)]
    corpus.put("train.jsonl", rows)
    found = load_task("superglue/boolq").read(corpus.source, "train").rows
    assert [row["label"] for row in found] == ["true", "false"]


def test_empty_data_set(corpus: Any) -> None:
    path = corpus.put("train.jsonl", "\n")
    assert f"{path}: the train data is empty" in fails("superglue/rte", corpus.source)
    corpus.put("dev.txt", "-DOCSTART- O\n\n")
    assert "empty" in fails("ner/conll2003", corpus.source, "validation")


def test_missing_split_names_folder_and_names(corpus: Any) -> None:
    corpus.put("train.jsonl", [RTE])
    text = fails("superglue/rte", corpus.source, "validation")
    assert str(corpus.path) in text
    assert "no validation data" in text
    assert "dev.*" in text
    assert ".jsonl" in text


def test_not_utf8_names_the_line(corpus: Any) -> None:
    path = corpus.put("train.jsonl", b'{"a": 1}\n{"premise": "\xe9t\xe9"}\n')
    text = fails("superglue/rte", corpus.source)
    assert f"{path}:2: not UTF-8: byte 0xe9" in text


def test_a_format_the_shape_does_not_read(corpus: Any) -> None:
    corpus.put("train.txt", "x\n")
    text = fails("superglue/rte", corpus.source)
    assert "superglue/rte does not read .txt files" in text
    assert ".jsonl, .parquet" in text


@pytest.mark.parametrize("gap", [" ", "\t", "  "])
@pytest.mark.parametrize("middle", [[], ["NNP", "I-NP"]])
def test_conll_takes_the_first_and_last_column(corpus: Any, gap: str, middle: list[str]) -> None:
    words = [("Ann", "B-PER"), ("sat", "O")]
    body = "\n".join(gap.join([word, *middle, tag]) for word, tag in words)
    path = corpus.put("train.txt", f"-DOCSTART- -X- -X- O\r\n\r\n{body}\n \n\n{body}")
    lines = list(read_columns(open_text(path)))
    assert [line.values for line in lines] == [
        {"tokens": ["Ann", "sat"], "tags": ["B-PER", "O"]}
    ] * 2
    assert [line.number for line in lines] == [3, 7]


def test_tabs_part_columns_whose_words_hold_spaces(corpus: Any) -> None:
    path = corpus.put("train.txt", "New York\tB-LOC\n")
    assert next(read_columns(open_text(path))).values["tokens"] == ["New York"]


def words(corpus: Any, text: str, **columns: Any) -> list[list[str]]:
    path = corpus.put("train.txt", text)
    return [line.values["tokens"] for line in read_columns(open_text(path), **columns)]


@pytest.mark.parametrize(
    "text",
    [
        "# text = Ann sat\n# sent_id = B-12\nAnn O\nsat O\n\n# newdoc id\n#\nBob O\n",
        "# id\n\nAnn\tB-X\nsat\tO\n\n# newdoc\n\nBob\tO\n\n# the end\n",
        "# global.columns = FORM NER\n# newpar\nAnn\tB-X\nsat\tO\n\n# text = a\tb\tc\nBob\tO\n",
    ],
)
def test_comments_before_a_sentence_are_no_words(corpus: Any, text: str) -> None:
    assert words(corpus, text) == [["Ann", "sat"], ["Bob"]]


def test_comments_beside_columns_with_names(corpus: Any) -> None:
    text = "# global.columns = ID FORM NER\n# text = Ann\n1\tAnn\tB-X\n\n# newpar\n1\t#\tO\n"
    assert words(corpus, text, token="FORM", tag="NER") == [["Ann"], ["#"]]


@pytest.mark.parametrize(
    "text",
    [
        "# O\nAnn B-X\n",  # with the columns of the next line
        "# a longer comment\n# NNP O\nAnn NNP B-X\n",
        "#\tO\nAnn\tB-X\n",
        "# O\nAnn NNP B-X\n",  # with a tag alone
        "# fish\nAnn B-X\n",  # with whatever tag: it is told, not lost
    ],
)
def test_the_word_hash_is_never_lost(corpus: Any, text: str) -> None:
    assert words(corpus, text) == [["#", "Ann"]]


def test_the_word_hash_in_and_at_the_end_of_a_file(corpus: Any) -> None:
    assert words(corpus, "Ann B-X\n# fish O\n# O\n\n# O\n") == [["Ann", "#", "#"], ["#"]]
    assert words(corpus, "# O\n") == [["#"]]
    assert words(corpus, "# 1 of 2\tO\nAnn\tO\n") == [["# 1 of 2", "Ann"]]
    assert words(corpus, "#1 O\nAnn O\n") == [["#1", "Ann"]]


def test_conll_line_with_one_column_is_named(corpus: Any) -> None:
    path = corpus.put("train.txt", "Ann B-PER\nsat\n")
    text = fails("ner/conll2003", corpus.source)
    assert f"{path}:2: one column: 'sat'" in text
    assert "WORD TAG" in text


def test_tag_outside_the_set_is_named_by_its_line(corpus: Any) -> None:
    path = corpus.put("train.txt", "Ann B-PER\n\nsat O\nhere B-GPE\n")
    text = fails("ner/conll2003", corpus.source)
    assert f"{path}:4: label 'B-GPE'" in text
    assert "B-MISC" in text


def test_iob1_files_become_bio(corpus: Any) -> None:
    corpus.put("train.txt", "Ann I-PER\nsat O\n\nYork I-LOC\nBob B-LOC\n")
    rows = load_task("ner/conll2003").read(corpus.source, "train", limit=1).rows
    assert rows == [{"tokens": ["Ann", "sat"], "tags": ["B-PER", "O"]}]
    kept = load_task("ner/conll2003", {"scheme": "bio"}).read(corpus.source, "train").rows
    assert kept[0]["tags"] == ["I-PER", "O"]


def test_scheme_is_decided_beyond_the_limit(corpus: Any) -> None:
    corpus.put("train.txt", "Ann I-PER\n\nBob B-PER\n")
    rows = load_task("ner/conll2003").read(corpus.source, "train", limit=1).rows
    assert rows[0]["tags"] == ["I-PER"]


def test_tagging_reads_jsonl_with_and_without_tags(corpus: Any) -> None:
    corpus.put("train.jsonl", [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["b"]}])
    rows = load_task("ner/conll2003").read(corpus.source, "train").rows
    assert rows == [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["b"]}]
    corpus.put("train.jsonl", [{"tokens": ["a", "b"], "tags": ["O"]}])
    assert "2 words but 1 tags" in fails("ner/conll2003", corpus.source)


def ask(**values: Any) -> dict[str, Any]:
    answers = [{"text": "Ann", "answer_start": 0}]
    return {"id": "q7", "question": "who ?", "answers": answers} | values


def test_squad_rows(corpus: Any) -> None:
    bare = ask(id="u")
    del bare["answers"]
    empty = ask(id="n", is_impossible=True, plausible_answers=[{"text": "x", "answer_start": 9}])
    corpus.put("dev-v2.0.json", squad_json("Ann sat.", ask(is_impossible=False), empty, bare))
    rows = load_task("qa/squad_v2").read(corpus.source, "validation").rows
    shared = {"title": "T", "question": "who ?", "context": "Ann sat."}
    assert rows == [
        shared | {"id": "q7", "answers": [{"text": "Ann", "answer_start": 0}]},
        shared | {"id": "n", "answers": []},
        shared | {"id": "u"},
    ]


@pytest.mark.parametrize("key", ["id", "title", "\ud83d"])
def test_half_a_character_in_a_squad_file(corpus: Any, key: str) -> None:
    text = squad_json("Ann sat.", ask(**{key: "\ud83d"}))
    corpus.put("train.json", text)
    assert "half a surrogate pair: \\ud83d" in fails("qa/squad", corpus.source)


def test_answer_not_in_its_context_names_file_and_question(corpus: Any) -> None:
    wrong = [{"text": "sat", "answer_start": 0}]
    path = corpus.put("train-v1.1.json", squad_json("Ann sat.", ask(answers=wrong)))
    text = fails("qa/squad", corpus.source)
    assert f"{path}: question q7" in text
    assert "'sat' does not stand at character 0" in text
    assert "it first stands at character 4" in text


def test_a_question_of_squad_has_an_answer(corpus: Any) -> None:
    corpus.put("train.json", squad_json("Ann sat.", ask(is_impossible=True)))
    assert "qa/squad_v2" in fails("qa/squad", corpus.source)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{\n broken", "train.json:2: no JSON"),
        ('{"data": [{"paragraphs": [{"qas": [{"id": 1}]}]}]}', "no 'context'"),
        ('{"a":\n 1}', "not SQuAD's layout"),
    ],
)
def test_other_json_is_refused(corpus: Any, content: str, what: str) -> None:
    corpus.put("train.json", content)
    assert what in fails("qa/squad", corpus.source)


@pytest.mark.parametrize("answer", [{"text": 3, "answer_start": 0}, {"text": "Ann"}, "Ann"])
def test_answers_have_text_and_place(corpus: Any, answer: Any) -> None:
    corpus.put("train.json", squad_json("Ann sat.", ask(answers=[answer])))
    assert "answer_start" in fails("qa/squad", corpus.source)


def write_parquet(path: Path, features: dict[str, Any], rows: dict[str, list[Any]]) -> None:
    from datasets import Dataset, Features

    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=Features(features)).to_parquet(str(path))


def test_parquet_values_that_json_has_not(corpus: Any) -> None:
    """Predictions are written as JSON: what is read can be written."""
    day = datetime(2020, 2, 29, 1, 2, 3)
    row = {"day": day.date(), "cost": Decimal("1.50"), "raw": b"\xff", "in": {"at": [day.time()]}}
    path = corpus.path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"when": day, **row}]), path)
    (line,) = read_parquet(path, {}, {})
    assert line.values == {
        "when": "2020-02-29T01:02:03",
        "day": "2020-02-29",
        "cost": "1.50",
        "raw": None,
        "in": {"at": ["01:02:03"]},
    }


def test_parquet_classes_get_their_names_back(corpus: Any) -> None:
    from datasets import ClassLabel, Value

    path = corpus.path / "train-00000-of-00001.parquet"
    write_parquet(
        path,
        {
            "question": Value("string"),
            "passage": Value("string"),
            "label": ClassLabel(names=["False", "True"]),
        },
        {"question": ["q"] * 3, "passage": ["p"] * 3, "label": [1, 0, -1]},
    )
    rows = load_task("superglue/boolq").read(corpus.source, "train").rows
    assert [row.get("label") for row in rows] == ["true", "false", None]
    assert "label" not in rows[2]


def test_parquet_tag_lists_and_column_names(corpus: Any) -> None:
    from datasets import ClassLabel, Sequence, Value

    names = ["O", "B-PER", "I-PER"]
    write_parquet(
        corpus.path / "train.parquet",
        {"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=names))},
        {"tokens": [["Ann", "sat"]], "ner_tags": [[1, 0]]},
    )
    rows = load_task("ner/conll2003").read(corpus.source, "train").rows
    assert rows == [{"tokens": ["Ann", "sat"], "tags": ["B-PER", "O"]}]


def test_parquet_answers_are_lists_of_columns(corpus: Any) -> None:
    from datasets import Sequence, Value

    answer = {"text": Value("string"), "answer_start": Value("int32")}
    write_parquet(
        corpus.path / "train.parquet",
        {
            "id": Value("string"),
            "question": Value("string"),
            "context": Value("string"),
            "answers": Sequence(answer),
        },
        {
            "id": ["1", "2"],
            "question": ["who ?"] * 2,
            "context": ["Ann sat."] * 2,
            "answers": [{"text": ["Ann"], "answer_start": [0]}, {"text": [], "answer_start": []}],
        },
    )
    rows = load_task("qa/squad_v2").read(corpus.source, "train").rows
    assert [row["answers"] for row in rows] == [[{"text": "Ann", "answer_start": 0}], []]


def test_a_broken_parquet_file(corpus: Any) -> None:
    path = corpus.put("train.parquet", "nothing of the kind")
    with pytest.raises(DataError, match="no parquet file"):
        list(read_parquet(path, {}, {}))


def test_shards_are_joined_and_identify_the_data(corpus: Any) -> None:
    from datasets import ClassLabel, Value

    features = {
        "premise": Value("string"),
        "hypothesis": Value("string"),
        "label": ClassLabel(names=["entailment", "not_entailment"]),
    }
    for shard in (0, 1):
        rows = {"premise": [f"p{shard}"], "hypothesis": ["h"], "label": [shard]}
        write_parquet(corpus.path / f"train-0000{shard}-of-00002.parquet", features, rows)
    split = load_task("superglue/rte").read(corpus.source, "train")
    assert [row["premise"] for row in split.rows] == ["p0", "p1"]
    assert len(split.files) == 2
    split.files[1].unlink()
    assert load_task("superglue/rte").read(corpus.source, "train").sha256 != split.sha256
