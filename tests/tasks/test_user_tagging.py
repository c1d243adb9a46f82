from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.scoring.cmrc import is_unspaced, join_words
from ptv2_cli.scoring.entities import bioes_to_bio, scheme_of, tag_pairs
from ptv2_cli.tasks.catalog import load_task

BIO = "Ann B-PER\nLee I-PER\nBob B-PER\nin O\nRome B-LOC\n"
IOB1 = "Ann I-PER\nLee I-PER\nBob B-PER\nin O\nRome I-LOC\n"
BIOES = "Ann B-PER\nLee E-PER\nBob S-PER\nin O\nRome S-LOC\n"
BMES = BIOES.replace("S-PER", "S-PER") + "\nNew B-LOC\nYork M-LOC\nCity E-LOC\n"
LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TAGS = ["B-PER", "I-PER", "B-PER", "O", "B-LOC"]


def own(**options: Any) -> Any:
    return load_task("text/tagging", options)


def settled(corpus: Any, text: str, name: str = "train.txt", **options: Any) -> Any:
    corpus.put(name, text)
    return own(**options).settle(corpus.source)


@pytest.mark.parametrize(
    ("text", "scheme"), [(BIO, "bio"), (IOB1, "iob1"), (BIOES, "bioes"), (BMES, "bioes")]
)
def test_schemes_are_found_and_read_as_bio(corpus: Any, text: str, scheme: str) -> None:
    task = settled(corpus, text)
    assert (task.options.scheme, task.labels) == (scheme, LABELS)
    assert task.read(corpus.source, "train").rows[0]["tags"] == TAGS
    (corpus.path / "train.txt").unlink()
    assert task.settle(corpus.source) is task


def test_the_scheme_of_train_holds_for_a_split_that_shows_none(corpus: Any) -> None:
    task = settled(corpus, IOB1)
    corpus.put("dev.txt", "Bob I-PER\nsat O\n")
    assert task.read(corpus.source, "validation").rows[0]["tags"] == ["B-PER", "O"]


def test_bilou() -> None:
    tags = ["B-X", "I-X", "L-X", "U-X", "O"]
    assert scheme_of(tag_pairs([tags])) == "bioes"
    assert bioes_to_bio(tags) == ["B-X", "I-X", "I-X", "B-X", "O"]


def test_columns_by_index(corpus: Any) -> None:
    text = "1\tAnn\tB-PER\tNNP\n2\tsat\tO\tVB\n"
    task = settled(corpus, text, token_column=1, tag_column=-2)
    row = task.read(corpus.source, "train").rows[0]
    assert row == {"tokens": ["Ann", "sat"], "tags": ["B-PER", "O"]}


@pytest.mark.parametrize("lead", ["", "# ", "# global.columns = "])
def test_columns_by_name(corpus: Any, lead: str) -> None:
    text = f"\n{lead}ID WORD NER POS\n1 Ann B-PER NNP\n2 sat O VB\n"
    task = settled(corpus, text, token_column="WORD", tag_column="NER")
    split = task.read(corpus.source, "train")
    assert split.rows == [{"tokens": ["Ann", "sat"], "tags": ["B-PER", "O"]}]
    with pytest.raises(DataError, match=r"train\.txt:2: no column 'NERS'") as caught:
        own(token_column="WORD", tag_column="NERS").settle(corpus.source)
    assert "did you mean 'NER'?" in str(caught.value)


def test_jsonl_under_the_columns_names(corpus: Any) -> None:
    corpus.put("train.jsonl", [{"words": ["Ann"], "ner": ["B-PER"]}])
    task = own(token_column="words", tag_column="ner").settle(corpus.source)
    assert task.read(corpus.source, "train").rows == [{"tokens": ["Ann"], "tags": ["B-PER"]}]
    assert task.gold_columns == ("tags", "ner")


def test_labels_given_limit_the_types(corpus: Any) -> None:
    path = corpus.put("train.txt", BIO)
    task = own(labels=["O", "B-PER", "I-PER"]).settle(corpus.source)
    assert task.labels == ("O", "B-PER", "I-PER")
    with pytest.raises(DataError, match=f"{path}:5: entity type 'LOC'"):
        task.read(corpus.source, "train")
    with pytest.raises(ConfigError, match="names O and different B- and I- tags"):
        own(labels=["B-PER", "NN"])


def test_a_type_that_train_has_not(corpus: Any) -> None:
    task = settled(corpus, BIO)
    path = corpus.put("dev.txt", "Ann B-PER\n\nsat O\nBob B-PERS\n")
    with pytest.raises(DataError) as caught:
        task.read(corpus.source, "validation")
    assert f"{path}:4: entity type 'PERS'" in str(caught.value)
    assert "did you mean 'PER'?" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("Ann NNP\n", {}, "train.txt:1: tag 'NNP' is no tag of BIO, IOB1 or BIOES"),
        ("a O\n\nAnn B-\n", {}, "train.txt:3: tag 'B-'"),
        ("Ann B-PER\n", {"tag_column": 2}, "train.txt:1: no column 2: 'Ann B-PER' has 2"),
        ("Ann O\nsat O\n", {}, "every tag is O"),
        ("Ann\n", {}, "train.txt:1: one column"),
    ],
)
def test_files_that_are_no_tags(corpus: Any, text: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        settled(corpus, text, **options)
    assert says in str(caught.value)


def test_a_csv_file_is_no_conll(corpus: Any) -> None:
    with pytest.raises(
        DataError,
        match=r"does not read \.csv files\n.*WORD TAG lines.*in a file such as \w+\.conll",
    ):
        settled(corpus, "token,tag\nAnn,B-PER\n", "train.csv")


def test_chinese_entities_have_no_spaces(corpus: Any) -> None:
    from transformers import BertTokenizerFast

    signs = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"他去北京了"]
    tokenizer = BertTokenizerFast(vocab={sign: at for at, sign in enumerate(signs)})
    task = settled(corpus, "他 O\n去 O\n北 B-地名\n京 E-地名\n了 O\n")
    rows = task.read(corpus.source, "train").rows
    (feature,) = task.encode(rows, Encoder(tokenizer, 16))
    assert feature.label == [-100, 0, 0, 1, 2, 0, -100]
    outputs = [{"probabilities": np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 2, 0, 0]]}]
    line = task.decode(rows, [feature], outputs, {})[0]
    assert line["entities"] == [
        {"type": "地名", "start": 2, "end": 4, "text": "北京", "probability": 1.0}
    ]


def test_words_are_joined_as_their_script_does() -> None:
    assert join_words(["New", "York"]) == "New York"
    assert join_words(["北", "京", "，", "Xi'an", "city"]) == "北京，Xi'an city"
    assert is_unspaced(["在1998年"])
    assert not is_unspaced(["in 1998 (京)"])
    assert not is_unspaced([])
    assert is_unspaced(["ประเทศไทย"])
