from __future__ import annotations

from pathlib import Path
from typing import Any

import conll_files
import numpy as np
import pytest

from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.rows import source_of
from ptv2_cli.data.source import FolderSource
from ptv2_cli.errors import ConfigError, DataError, InputError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.template import default_template
from ptv2_cli.kinds import IGNORE
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_task

LABELS = ["O", "B-A0", "I-A0", "B-V", "I-V", "B-A1", "I-A1"]
ROW = {
    "tokens": ["ann", "likes", "big", "cats"],
    "predicate": 1,
    "tags": ["B-A0", "B-V", "B-A1", "I-A1"],
}
TWO = conll_files.text_2012(conll_files.sentences(1, 1))
"""A sentence with two predicates."""


def made(**options: Any) -> Task:
    return load_task("srl/conll2005", {"labels": LABELS, **options})


# Files


def test_conll_2005_files(tmp_path: Path) -> None:
    source = FolderSource(conll_files.write_2005(tmp_path))
    task = load_task("srl/conll2005").settle(source)
    rows = task.read(source, "train").rows
    wanted = [
        (words, at, tags)
        for words, _, propositions in conll_files.sentences(40, 1)
        for at, tags in propositions
    ]
    assert [(row["tokens"], row["predicate"], row["tags"]) for row in rows] == wanted
    assert len(rows) == 60
    roles = ("A0", "A1", "AM-LOC", "R-A0", "V")
    assert task.labels == ("O", *(f"{prefix}-{role}" for role in roles for prefix in "BI"))
    test = task.read(source, "test").rows
    assert [row["corpus"] for row in test] == ["brown"] * 6 + ["wsj"] * 9
    assert task.read(source, "validation", 4).rows == task.read(source, "validation").rows[:4]


def test_conll_2012_files(tmp_path: Path) -> None:
    source = FolderSource(conll_files.write_2012(tmp_path))
    task = load_task("srl/conll2012").settle(source)
    rows = task.read(source, "train").rows
    wanted = [
        (words, at, conll_files.long_names(tags))
        for words, _, propositions in conll_files.sentences(40, 1)
        for at, tags in propositions
    ]
    assert [(row["tokens"], row["predicate"], row["tags"]) for row in rows] == wanted
    assert "B-ARGM-LOC" in task.labels
    assert len(task.read(source, "validation").rows) == 18


def test_ontonotes_entities_in_both_forms(tmp_path: Path, corpus: Any) -> None:
    source = FolderSource(conll_files.write_2012(tmp_path / "tree"))
    task = load_task("ner/ontonotes")
    found = conll_files.sentences(40, 1)
    wanted = [{"tokens": words, "tags": tags} for words, tags, _ in found]
    assert task.read(source, "train").rows == wanted
    lines = ("".join(f"{w} {t}\n" for w, t in zip(*pair[:2], strict=True)) for pair in found)
    corpus.put("train.txt", "\n".join(lines))
    assert task.read(corpus.source, "train").rows == wanted
    corpus.put("dev.txt", "Ann B-PER\n")
    with pytest.raises(DataError, match=r"label 'B-PER'"):
        task.read(corpus.source, "validation")


def test_lines_of_the_reference(corpus: Any) -> None:
    corpus.put("train.txt", "1 ann sat on mat ||| B-A0 B-V B-AM-LOC I-AM-LOC\n\n0 sat ||| B-V\n")
    rows = made().read(corpus.source, "train").rows
    assert rows == [
        {
            "tokens": ["ann", "sat", "on", "mat"],
            "predicate": 1,
            "tags": ["B-A0", "B-V", "B-AM-LOC", "I-AM-LOC"],
        },
        {"tokens": ["sat"], "predicate": 0, "tags": ["B-V"]},
    ]


def test_a_verb_of_two_words_and_a_sentence_without_predicates(corpus: Any) -> None:
    corpus.put("train.txt", "no -\none -\n\nann - (A0*)\nfell fall (V*\nover - *)\n")
    (row,) = made().read(corpus.source, "train").rows
    assert (row["predicate"], row["tags"]) == (1, ["B-A0", "B-V", "I-V"])


@pytest.mark.parametrize(
    ("task", "text", "place", "what"),
    [
        ("conll2005", "ann - (A0*)\nsat sit *\n\nx - *\ny y (V*\n", "5", "(V* that begins"),
        ("conll2005", "ann - (A0*)\nsat sit\n", "2", "2 columns, but line 1"),
        ("conll2005", "ann - (A0*) *\nsat sit (V*) *\n", "1", "2 columns of arguments"),
        ("conll2005", "ann O\nsat O\n", "1", "0 columns of arguments, but column 2 has 2"),
        ("conll2005", "ann - (B0*)\nsat sit (V*)\n", "1", "'B-B0' is no tag of a role"),
        ("conll2005", "1 ann sat ||| B-A0\n", "1", "2 words but 1 tags"),
        ("conll2005", "7 ann sat ||| B-A0 B-V\n", "1", "predicate 7 of 2 words"),
        ("conll2005", "0 ann ||| B-V\nann sat\n", "2", "no line of a predicate"),
        ("conll2012", "ann - (A0*)\nsat sit (V*)\n", "1", "no line of CoNLL-2012: 3 columns"),
        ("conll2012", TWO.replace("(R-ARG0*)", "(WHO*)"), "5", "'B-WHO' is no tag of a role"),
        ("conll2012", TWO.replace("(R-ARG0*)", "(R-ARG0*"), "6", "begins a span inside R-ARG0"),
    ],
)  # fmt: skip
def test_bad_files_are_named_by_line(
    corpus: Any, task: str, text: str, place: str, what: str
) -> None:
    path = corpus.put("train.txt", text)
    with pytest.raises(DataError) as caught:
        load_task(f"srl/{task}").settle(corpus.source)
    (problem,) = caught.value.problems
    assert (problem.where, what in problem.what) == (f"{path}:{place}", True), problem
    assert problem.hint


def test_an_argument_column_of_2012_without_verb(corpus: Any) -> None:
    text = TWO.replace("(V*)", "*")
    corpus.put("train.txt", text)
    # The framesets say where the predicates are; without them there is no telling.
    rows = load_task("srl/conll2012").read(corpus.source, "train").rows
    assert [row["predicate"] for row in rows] == [1, 4]
    path = corpus.put("train.txt", text.replace("  01  ", "  -  ", 1))
    with pytest.raises(DataError, match=r"column 12 of this sentence has no \(V\*") as caught:
        load_task("srl/conll2012").read(corpus.source, "train")
    assert caught.value.problems[0].where == f"{path}:2"


# Rows to predict


def test_rows_to_predict() -> None:
    task, place = made(), Path("rows")
    row = task.new_row(RawRow({"text": "ann likes cats", "predicate": "1", "note": 7}, place, 1))
    assert (row["tokens"], row["predicate"]) == (["ann", "likes", "cats"], 1)
    assert source_of(row)["note"] == 7
    assert "tags" not in task.new_row(RawRow(ROW, place, 1))
    for bad in (None, 3, -1, True, "x"):
        with pytest.raises(DataError, match="predicate"):
            task.new_row(RawRow({"tokens": ["a", "b", "c"], "predicate": bad}, place, 1))


# Inputs


def test_the_predicate_stands_after_the_separator(wordpiece: Any) -> None:
    (feature,) = made().encode([ROW], Encoder(wordpiece, 32))
    tokens = wordpiece.convert_ids_to_tokens(feature.input_ids)
    assert tokens == ["[CLS]", "ann", "likes", "big", "cat", "##s", "[SEP]", "likes", "[SEP]"]
    assert feature.token_type_ids == [0] * 7 + [1] * 2
    assert feature.words == [None, 0, 1, 2, 3, None, None, None, None]
    assert feature.label == [IGNORE, 1, 3, 5, 6, IGNORE, IGNORE, IGNORE, IGNORE]


def test_two_predicates_give_two_inputs(wordpiece: Any) -> None:
    rows = [ROW, {**ROW, "predicate": 3}]
    one, other = made().encode(rows, Encoder(wordpiece, 32))
    assert one.input_ids != other.input_ids
    assert one.input_ids[:6] == other.input_ids[:6]


def test_the_literal_separator(wordpiece: Any, roberta: Any) -> None:
    own = made().encode([ROW], Encoder(roberta, 64))[0].input_ids
    (feature,) = made(separator="literal").encode([ROW], Encoder(roberta, 64))
    text = roberta.decode(feature.input_ids)
    assert "[SEP]" in text
    assert "[SEP]" not in roberta.decode(own)
    assert own.count(roberta.sep_token_id) == 3  # </s></s> and the last
    assert feature.input_ids.count(roberta.sep_token_id) == 1
    # Where [SEP] is the tokenizer's own, the tokens are the same and all of one type.
    (feature,) = made(separator="literal").encode([ROW], Encoder(wordpiece, 32))
    assert feature.input_ids == made().encode([ROW], Encoder(wordpiece, 32))[0].input_ids
    assert feature.token_type_ids == [0] * 9


def test_a_tokenizer_without_separator(gpt2: Any) -> None:
    with pytest.raises(ConfigError, match="nothing between two texts") as caught:
        made().encode([ROW], Encoder(gpt2, 64))
    assert "separator: literal" in caught.value.problems[0].hint
    assert made(separator="literal").encode([ROW], Encoder(gpt2, 64))


def test_every_window_shows_the_predicate(wordpiece: Any) -> None:
    task = made(stride=2)
    row = {
        "tokens": ["ann", "likes", *["big", "cats"] * 20],
        "predicate": 1,
        "tags": ["B-A0", "B-V", *["O"] * 40],
    }
    features = task.encode([row], Encoder(wordpiece, 14))
    assert len(features) > 4
    for feature in features:
        tokens = wordpiece.convert_ids_to_tokens(feature.input_ids)
        assert tokens[-3:] == ["[SEP]", "likes", "[SEP]"]
        assert len(tokens) <= 14
    read = [word for feature in features for word in feature.words or [] if word is not None]
    assert sorted(read) == list(range(42))
    # A predicate that would fill the input leaves half of it to the sentence.
    long = {"tokens": ["unaffordable"] * 3, "predicate": 1}
    for feature in task.encode([long], Encoder(wordpiece, 6)):
        assert len(feature.input_ids) <= 6


def test_a_template_places_both(wordpiece: Any) -> None:
    template = default_template(("tokens", "predicate"), 4, with_mask=False)
    (feature,) = made().encode([ROW], Encoder(wordpiece, 32, template=template))
    tokens = wordpiece.convert_ids_to_tokens(feature.input_ids)
    assert tokens[-2] == "likes"
    assert feature.slots is not None
    assert max(feature.slots) == 3


def test_a_role_that_train_lacks_is_missed(wordpiece: Any) -> None:
    task = made()
    row = {**ROW, "tags": ["B-A0", "B-V", "B-A3", "I-A3"]}
    (feature,) = task.encode([row], Encoder(wordpiece, 32))
    assert feature.label == [IGNORE, 1, 3, IGNORE, IGNORE, *[IGNORE] * 4]
    scores = task.score([row], [{"tags": ["B-A0", "B-V", "O", "O"]}])
    assert scores.metrics["recall"] == pytest.approx(1 / 2)


def test_prediction_lines(wordpiece: Any) -> None:
    task = made()
    (feature,) = task.encode([ROW], Encoder(wordpiece, 32))
    values = np.zeros((9, len(LABELS)), dtype=np.float32)
    values[:, 0] = 1.0
    values[1] = [0.2, 0.8, 0, 0, 0, 0, 0]
    values[2] = [0, 0, 0, 1, 0, 0, 0]
    (line,) = task.decode([ROW], [feature], [{"probabilities": values}], {})
    assert line["tags"] == ["B-A0", "B-V", "O", "O"]
    assert line["entities"] == [
        {"type": "A0", "start": 0, "end": 1, "text": "ann", "probability": pytest.approx(0.8)},
        {"type": "V", "start": 1, "end": 2, "text": "likes", "probability": 1.0},
    ]
    with pytest.raises(InputError, match="no gold"):
        task.score([{"tokens": ["a"], "predicate": 0}], [{"tags": ["O"]}])
