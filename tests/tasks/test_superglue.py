"""SuperGLUE's COPA, WiC, WSC, MultiRC and ReCoRD: rows, inputs, bad rows, scores by hand."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import superglue

from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.source import FolderSource
from ptv2_cli.errors import ConfigError, DataError, InputError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_definition, load_task, task_names

NAMES = ["copa", "wic", "wsc", "multirc", "record"]


def made(name: str, count: int = 3) -> list[dict[str, Any]]:
    return superglue.MAKERS[name](count, random.Random(1))


def read(
    corpus: Any, name: str, rows: list[dict[str, Any]], **options: Any
) -> list[dict[str, Any]]:
    corpus.put("train.jsonl", rows)
    return load_task(f"superglue/{name}", options).read(corpus.source, "train").rows


def shown(task: Task, rows: list[dict[str, Any]], wordpiece: Any, max_len: int = 64) -> list[str]:
    encoder = Encoder(wordpiece, max_len, task.truncation)
    return [
        wordpiece.decode(item.input_ids)
        for feature in task.encode(rows, encoder)
        for item in feature.inputs
    ]


# Rows and inputs


def test_wic_in_both_templates(corpus: Any, gpt2: Any) -> None:
    row = {"word": "mat", "sentence1": "the mat .", "sentence2": "a mat sat .", "label": True,
           "idx": 0, "start1": 4, "end1": 7, "start2": 2, "end2": 5, "version": 1.1}  # fmt: skip
    (found,) = read(corpus, "wic", [row])
    assert found == {**row, "label": "true"}
    # The reference's two ways, RoBERTa's and BERT's.
    ask = "the mat . a mat sat . Does mat have the same meaning in both sentences?"
    assert shown(load_task("superglue/wic"), [found], gpt2) == [ask]
    word = load_task("superglue/wic", {"template": "word"})
    assert word.columns == ("sentence1", "sentence2")
    assert dict(word.texts(found)) == {  # type: ignore[attr-defined]
        "sentence1": "mat: the mat .",
        "sentence2": "mat: a mat sat .",
    }
    assert shown(word, [found], gpt2) == ["mat: the mat . mat: a mat sat ."]


def test_the_chosen_template_is_kept() -> None:
    assert load_task("superglue/wic").options.template == "sentences"
    with pytest.raises(ConfigError, match=r"task.template.*no template 'words'[\s\S]*word"):
        load_task("superglue/wic", {"template": "words"})


@pytest.mark.parametrize("name", task_names())
def test_templates_name_columns_that_rows_have(name: str) -> None:
    definition = load_definition(name)
    row = dict.fromkeys(definition.text, "x")
    for patterns in definition.templates.values():
        assert all("x" in pattern.format_map(row) for pattern in patterns.values())


def test_wsc_lifts_its_target(corpus: Any, wordpiece: Any) -> None:
    row = {"text": "the dog sat where it is", "idx": 4, "label": False,
           "target": {"span1_index": 0, "span1_text": "the dog", "span2_index": 4,
                      "span2_text": "it"}}  # fmt: skip
    (found,) = read(corpus, "wsc", [row])
    assert found == {"text": row["text"], "idx": 4, "label": "false", "span1_index": 0,
                     "span1_text": "the dog", "span2_index": 4, "span2_text": "it"}  # fmt: skip
    task = load_task("superglue/wsc")
    # [UNK] is ":", which the vocabulary lacks.
    assert shown(task, [found], wordpiece) == [
        "[CLS] it [UNK] the dog sat where it is [SEP] the dog [SEP]"
    ]
    # Rows as the hub has them are as good.
    assert task.new_row(RawRow(found, Path("x"), 1)) == {
        k: v for k, v in found.items() if k != "label"
    }


def test_copa_as_its_files_have_it(corpus: Any, gpt2: Any) -> None:
    row = {"premise": "the cat sat", "choice1": "it is big", "choice2": "the mat", "label": 1,
           "question": "cause", "idx": 0}  # fmt: skip
    (found,) = read(corpus, "copa", [row])
    assert found == row
    assert shown(load_task("superglue/copa"), [found], gpt2) == [
        "the cat sat because it is big",
        "the cat sat because the mat",
    ]


MULTIRC = {
    "idx": 7,
    "version": 1.1,
    "passage": {
        "text": "ann sat . bob is in york .",
        "questions": [
            {"question": "who sat ?", "idx": 9, "answers": [
                {"text": "ann", "idx": 3, "label": 1}, {"text": "bob", "idx": 4, "label": 0}]},
            {"question": "where is bob ?", "idx": 10, "answers": [
                {"text": "york", "idx": 5, "label": 1}]},
        ],
    },
}  # fmt: skip


def test_multirc_is_a_row_per_answer(corpus: Any, wordpiece: Any) -> None:
    rows = read(corpus, "multirc", [MULTIRC])
    assert [row["label"] for row in rows] == ["true", "false", "true"]
    assert rows[1] == {"version": 1.1, "paragraph": "ann sat . bob is in york .",
                       "question": "who sat ?", "answer": "bob", "label": "false",
                       "idx": {"paragraph": 7, "question": 9, "answer": 4}}  # fmt: skip
    task = load_task("superglue/multirc")
    assert shown(task, rows, wordpiece)[2] == (
        "[CLS] ann sat. bob is in york. [SEP] where is bob? york [SEP]"
    )
    assert [task.unit(row) for row in rows] == [(7, 9), (7, 9), (7, 10)]
    nameless = [{k: v for k, v in row.items() if k != "idx"} for row in rows]
    assert [len({task.unit(row) for row in nameless[:n]}) for n in (2, 3)] == [1, 2]


def test_limit_counts_questions(corpus: Any) -> None:
    corpus.put("train.jsonl", [MULTIRC, {**MULTIRC, "idx": 8}])
    task = load_task("superglue/multirc")
    counts = [len(task.read(corpus.source, "train", limit).rows) for limit in (1, 2, 3, 4, 9)]
    assert counts == [2, 3, 5, 6, 6]


RECORD = {
    "source": "made",
    "idx": 2,
    "passage": {
        "text": "Ann lives in York . New York is big .",
        "entities": [{"start": 20, "end": 27}, {"start": 0, "end": 2}, {"start": 13, "end": 16},
                     {"start": 0, "end": 2}],
    },
    "qas": [
        {"query": "in @placeholder lives ann", "idx": 5, "answers": [
            {"start": 13, "end": 16, "text": "York"},
            {"start": 20, "end": 27, "text": "New York"}]},
        {"query": "who is it ? @placeholder", "idx": 6, "answers": [
            {"start": 0, "end": 2, "text": "Ann"}]},
    ],
}  # fmt: skip


def test_record_is_a_row_per_query_and_an_input_per_entity(corpus: Any, wordpiece: Any) -> None:
    rows = read(corpus, "record", [RECORD])
    assert rows[0] == {"source": "made", "passage": RECORD["passage"]["text"],  # type: ignore[index]
                       "query": "in @placeholder lives ann",
                       "entities": ["Ann", "New York", "York"], "answers": ["New York", "York"],
                       "idx": {"passage": 2, "query": 5}}  # fmt: skip
    task = load_task("superglue/record")
    features = task.encode(rows, Encoder(wordpiece, 64))
    assert [(item.row, item.label) for item in features] == [
        (0, 0), (0, 1), (0, 1), (1, 1), (1, 0), (1, 0)]  # fmt: skip
    assert wordpiece.decode(features[1].input_ids).split("[SEP]")[1] == " in new york lives ann "


def test_rows_of_the_hub_are_those_of_the_files(corpus: Any) -> None:
    """The hub's parquet files: class names, flat columns, sorted unique texts."""
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    text, number = Value("string"), Value("int32")
    truth = ClassLabel(names=["False", "True"])
    hub: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
        "copa": (
            [{"premise": "p", "choice1": "a", "choice2": "b", "question": "cause",
              "idx": 0, "label": 1}],
            {"premise": text, "choice1": text, "choice2": text, "question": text, "idx": number,
             "label": ClassLabel(names=["choice1", "choice2"])},
        ),
        "wsc": (
            [{"text": "a b", "span1_index": 0, "span2_index": 1, "span1_text": "a",
              "span2_text": "b", "idx": 0, "label": 1}],
            {"text": text, "span1_index": number, "span2_index": number, "span1_text": text,
             "span2_text": text, "idx": number, "label": truth},
        ),
        "multirc": (
            [{"paragraph": "p", "question": "q", "answer": "a", "label": 1,
              "idx": {"paragraph": 0, "question": 1, "answer": 2}}],
            {"paragraph": text, "question": text, "answer": text, "label": truth,
             "idx": {"paragraph": number, "question": number, "answer": number}},
        ),
        "record": (
            [{"passage": "a b", "query": "@placeholder", "entities": ["a", "b"], "answers": ["b"],
              "idx": {"passage": 0, "query": 1}},
             {"passage": "a b", "query": "@placeholder", "entities": ["a", "b"], "answers": [],
              "idx": {"passage": 0, "query": 2}}],
            {"passage": text, "query": text, "entities": Sequence(text), "answers": Sequence(text),
             "idx": {"passage": number, "query": number}},
        ),
    }  # fmt: skip
    golds = {"copa": 1, "wsc": "true", "multirc": "true", "record": ["b"]}
    for name, (rows, features) in hub.items():
        folder = corpus.path / name / "train"
        folder.mkdir(parents=True)
        columns = {key: [row[key] for row in rows] for key in features}
        Dataset.from_dict(columns, features=Features(features)).to_parquet(folder / "0.parquet")
        task = load_task(f"superglue/{name}")
        found = task.read(FolderSource(corpus.path / name), "train").rows
        assert task.gold(found[0]) == golds[name]
        assert {**found[0], "label": None} == {**rows[0], "label": None}
    assert task.gold(found[1]) is None  # the test split, which has no answers


@pytest.mark.parametrize("name", NAMES)
def test_unlabelled_rows_are_read_to_predict(name: str) -> None:
    task = load_task(f"superglue/{name}")
    for row in made(name):
        line = RawRow(superglue.unlabelled(name, row), Path("new.jsonl"), 1)
        labelled = RawRow(copy.deepcopy(row), Path("new.jsonl"), 1)
        found = task.new_rows(line)
        assert all(task.gold(item) is None for item in found)
        # Gold answers in rows to predict are not looked at.
        assert task.new_rows(labelled) == found
        assert len(found) == {"multirc": len(list(task.expand(line))), "record": 2}.get(name, 1)


# Bad rows


def spoilt(name: str, path: str, value: Any) -> dict[str, Any]:
    """A good official row with one value replaced, or dropped for `...`."""
    row = copy.deepcopy({"multirc": MULTIRC, "record": RECORD}.get(name) or made(name)[0])
    *inner, last = path.split("/")
    place: Any = row
    for key in inner:
        place = place[int(key) if key.isdecimal() else key]
    if value is ...:
        del place[last]
    else:
        place[int(last) if last.isdecimal() else last] = value
    return row


@pytest.mark.parametrize(
    ("name", "path", "value", "says"),
    [
        ("copa", "label", 2, "train.jsonl:2: label 2 in a row of 2 choices"),
        ("copa", "choice2", ..., "train.jsonl:2: no column 'choice2'"),
        ("copa", "question", "why", "train.jsonl:2: label 'why'"),
        ("wic", "label", "maybe", "train.jsonl:2: label 'maybe'"),
        ("wic", "word", ..., "train.jsonl:2: no column 'word'"),
        ("wic", "end1", 99, "end1 99 outside of column 'sentence1'"),
        ("wic", "end2", ..., "train.jsonl:2: no column 'end2'"),
        ("wic", "start2", -1, "start2 -1"),
        ("wsc", "target/span2_index", 40, "span2_index 40 outside of column 'text'"),
        ("wsc", "target/span1_text", ..., "train.jsonl:2: no column 'span1_text'"),
        ("wsc", "target", [1], "'target' of the row holds [1]"),
        ("wsc", "label", 3, "train.jsonl:2: label 3"),
        ("multirc", "passage/questions/1/answers/0/label", 2,
         "train.jsonl:2: question 2, answer 1: label 2"),
        ("multirc", "passage/questions/0/answers", [], ":2: question 1: it has no answer"),
        ("multirc", "passage/questions/0/question", 5, "question 1: 'question' of it holds 5"),
        ("multirc", "passage/text", ..., "train.jsonl:2: the passage has no 'text'"),
        ("multirc", "passage/questions/0/idx", "x", "train.jsonl:2: question 1: idx 'x'"),
        ("multirc", "passage/questions/0/answers/1", "bob", "1, answer 2: it has no 'text'"),
        ("record", "passage/entities/0/end", 37, "train.jsonl:2: entity 1: an entity {"),
        ("record", "passage/entities/1/start", -1, "train.jsonl:2: entity 2: an entity {"),
        ("record", "passage/entities", [], "train.jsonl:2: the passage has no entity"),
        ("record", "qas/1/query", "no gap", "query 2: query 'no gap' has no @placeholder"),
        ("record", "qas/0/answers/0/end", 99, "train.jsonl:2: query 1: an answer {"),
        ("record", "qas/0/answers/0/text", ..., "query 1: an answer has no 'text'"),
        ("record", "qas", ..., "train.jsonl:2: the row has no 'qas'"),
        ("record", "idx", True, "train.jsonl:2: idx True"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(corpus: Any, name: str, path: str, value: Any, says: str) -> None:
    good = {"multirc": MULTIRC, "record": RECORD}.get(name) or made(name)[1]
    with pytest.raises(DataError) as caught:
        read(corpus, name, [good, spoilt(name, path, value)])
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [
        ("multirc",
         {"paragraph": "p", "question": "q", "answer": "a", "idx": {"paragraph": 0}}, "idx"),
        ("multirc", {"paragraph": "p", "question": "q"}, "no column 'answer'"),
        ("record",
         {"passage": "p", "query": "@placeholder", "entities": "p"}, "'entities' of the row"),
        ("record", {"passage": "p", "query": "@placeholder", "entities": []}, "no entities"),
        ("record", {"passage": "p", "query": "@placeholder", "entities": [3]}, "entities hold 3"),
    ],
)  # fmt: skip
def test_bad_flat_rows_are_named(name: str, row: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        load_task(f"superglue/{name}").new_rows(RawRow(row, Path("x.jsonl"), 3))
    assert str(caught.value).startswith("x.jsonl:3: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["multirc", "record"])
def test_a_long_passage_is_cut_and_not_the_question(name: str, wordpiece: Any, corpus: Any) -> None:
    official: dict[str, Any] = copy.deepcopy(MULTIRC if name == "multirc" else RECORD)
    official["passage"]["text"] += " the cat sat on a mat" * 20
    rows = read(corpus, name, [official])
    task = load_task(f"superglue/{name}")
    features = task.encode(rows, Encoder(wordpiece, 20, task.truncation))
    assert all(item.truncated and len(item.input_ids) == 20 for item in features)
    second = wordpiece.decode(features[0].input_ids).split("[SEP]")[1].strip()
    assert second == ("who sat? ann" if name == "multirc" else "in ann lives ann")


# Scores by hand


def answers(question: int, golds: str, guesses: str) -> tuple[list[Any], list[Any]]:
    """Rows and predictions of one question, + for right."""
    say = {"+": "true", "-": "false"}
    rows = [
        {"paragraph": "p", "question": "q", "answer": "a", "label": say[gold],
         "idx": {"paragraph": 0, "question": question, "answer": at}}
        for at, gold in enumerate(golds)
    ]  # fmt: skip
    return rows, [{"label": say[guess]} for guess in guesses]


def test_multirc_scores_by_hand() -> None:
    task = load_task("superglue/multirc")
    pairs = [answers(0, "+-+", "+-+"), answers(1, "+--", "++-"), answers(2, "-+", "--")]
    rows = [row for found, _ in pairs for row in found]
    lines = [line for _, found in pairs for line in found]
    scores = task.score(rows, lines)
    # Over the eight answers: 3 right ones found, 4 said, 4 gold: P = R = 3/4.
    assert scores.metrics == {"f1_a": pytest.approx(0.75), "exact_match": pytest.approx(1 / 3)}
    # Exact match is 1, 0, 0 over three questions, not over eight rows.
    assert scores.standard_errors["exact_match"] == pytest.approx(
        np.std([1, 0, 0], ddof=1) / 3**0.5
    )
    assert scores.standard_error == scores.standard_errors["f1_a"]
    assert scores.detail["confusion"] == {"false": {"false": 3, "true": 1},
                                          "true": {"false": 1, "true": 3}}  # fmt: skip
    statistics = task.row_statistics(rows, lines)
    assert statistics.tolist() == [
        *([2, 2, 2, 1, 1], [0] * 5, [0] * 5),
        *([1, 2, 1, 0, 1], [0] * 5, [0] * 5),
        *([0, 0, 1, 0, 1], [0] * 5),
    ]
    totals = task.from_statistics(statistics.sum(axis=0))
    assert {name: float(value) for name, value in totals.items()} == pytest.approx(scores.metrics)
    # Answers of a question need not stand together.
    order = [0, 3, 6, 1, 4, 7, 2, 5]
    mixed = task.score([rows[at] for at in order], [lines[at] for at in order])
    assert mixed.metrics == scores.metrics


def test_multirc_resamples_questions() -> None:
    """Ten answers that are all right or all wrong are one draw, not ten."""
    task = load_task("superglue/multirc")
    pairs = [answers(at, "+" * 10, ("+" if at % 2 else "-") * 10) for at in range(20)]
    rows = [row for found, _ in pairs for row in found]
    lines = [line for _, found in pairs for line in found]
    whole = task.score(rows, lines).standard_errors["f1_a"]
    single = [{**row, "idx": {**row["idx"], "question": at}} for at, row in enumerate(rows)]
    alone = task.score(single, lines).standard_errors["f1_a"]
    assert whole / alone == pytest.approx(10**0.5, rel=0.15)


def test_multirc_baseline_says_that_all_is_right() -> None:
    """SuperGLUE's most frequent class on validation: F1a 2 * 0.44 / 1.44 = 0.61, not 0."""
    task = load_task("superglue/multirc")
    rows, _ = answers(0, "+--+-", "-----")
    lines = task.majority(rows, rows)
    assert lines is not None
    assert task.score(rows, lines).metrics == {"f1_a": pytest.approx(4 / 7), "exact_match": 0.0}
    assert lines[0]["probabilities"] == {"false": 0.6, "true": 0.4}


def query(entities: list[str], gold: list[str]) -> dict[str, Any]:
    passage = " ".join(entities)
    return {"passage": passage, "query": "@placeholder", "entities": entities, "answers": gold}


def test_record_scores_by_hand() -> None:
    task = load_task("superglue/record")
    rows = [
        query(["Ann", "Bob"], ["Ann"]),
        query(["New York City", "York"], ["New York City"]),
        query(["The Mat", "a dog"], ["mat", "cat"]),
        query(["x", "y"], ["y"]),
    ]
    said = ["Ann", "York", "The Mat", "x"]
    scores = task.score(rows, [{"answer": answer} for answer in said])
    # "York" of "new york city": P 1, R 1/3, F1 1/2; articles and case do not count.
    assert scores.metrics == {"f1": pytest.approx(2.5 / 4), "exact_match": pytest.approx(2 / 4)}
    assert scores.standard_error == pytest.approx(np.std([1, 0.5, 1, 0], ddof=1) / 2)
    assert scores.detail["random_exact_match"] == pytest.approx(0.5)
    assert scores.detail["random_f1"] == pytest.approx((0.5 + 0.75 + 0.5 + 0.5) / 4)
    with pytest.raises(InputError, match="no gold answer"):
        task.score([{**rows[0], "answers": None}], [{"answer": "Ann"}])


def test_record_answers_the_likeliest_entity(wordpiece: Any) -> None:
    task = load_task("superglue/record")
    rows = [query(["ann", "bob", "it"], ["bob"]), query(["cat", "mat"], ["cat"])]
    features = task.encode(rows, Encoder(wordpiece, 32))
    chances = [0.2, 0.7, 0.6, 0.4, 0.4]
    outputs = [{"probabilities": np.array([1 - p, p], dtype=np.float32)} for p in chances]
    first, second = task.decode(rows, features, outputs, {})
    assert first["answer"] == "bob"
    assert first["probability"] == pytest.approx(0.7)
    assert [item["text"] for item in first["nbest"]] == ["bob", "it", "ann"]
    assert second["answer"] == "cat"  # the first of equals


def test_record_baseline_is_the_entity_named_most() -> None:
    task = load_task("superglue/record")
    row = {"passage": "bob saw ann . ann ran .", "entities": ["ann", "bob"], "answers": ["bob"]}
    (line,) = task.majority([], [row]) or []
    assert (line["answer"], line["probability"]) == ("ann", pytest.approx(2 / 3))
