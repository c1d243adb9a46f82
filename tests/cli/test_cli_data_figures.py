"""What `check` tells of the data: gold answers, unknown tokens, odd cells and labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import superglue
import tiny
from commandline import Material, Ptv2, Refused, only_run
from kinds import KINDS, WORDS, jsonl

GOLD = {
    "classification": "entailment 12, not_entailment 12",
    "own": "x 4, y 4",
    "regression": "mean 3.5, deviation 2.291, from 0 to 7",
    "choice": "choice 0 ",
    "tagging": " words: LOC ",
    "qa": "24 of 48 questions answerable (50%)",
    "roles": " arguments in ",
    "cloze": "1.0 of 2.5 entities are right on average",
    "answers": "false ",
}


@pytest.mark.parametrize("kind", KINDS)
def test_gold_answers_are_counted_for_every_kind(kind: str, material: Material, ptv2: Ptv2) -> None:
    section = {**KINDS[kind](Path("data")), "data": "data", "max_len": 30}
    material.write(Path("config.yaml"), task=section, report=["validation"])
    result = ptv2("check")
    assert result.code == 0, result.err
    out = " ".join(result.out.split())
    assert GOLD[kind].strip() in out
    assert out.count("% unknown tokens") == 2


def test_several_tasks_are_counted_apart(material: Material, ptv2: Ptv2) -> None:
    tasks = [{"name": "ner/conll2003", "data": str(material.ner), "max_len": 24}] * 2
    material.write(Path("config.yaml"), task=None, tasks=tasks, report=["validation"])
    out = ptv2("check").out
    assert "conll2003-1: " in out
    assert "conll2003-2: " in out


def test_of_many_labels_the_most_frequent_and_the_rarest_are_named(
    material: Material, ptv2: Ptv2
) -> None:
    rows = [
        {"text": f"ann {word} {at}", "label": f"l{at}"}
        for at in range(9)
        for word in WORDS[: 1 if at == 5 else 2]
    ]
    jsonl(Path("data"), rows, rows[:4])
    task = {"name": "text/classification", "data": "data", "max_len": 24}
    material.write(Path("config.yaml"), task=task)
    out = " ".join(ptv2("check").out.split())
    assert "l0 2, l1 2, l2 2, l3 2, l4 2, l6 2, 3 more, the rarest l5 1" in out


# Unknown tokens


def chinese(rows: int, of: int = 24) -> None:
    """RTE whose first `rows` of `of` premises are in a script that the vocabulary lacks."""
    tiny.write_rte(Path("data"), train=of, validation=12)
    lines = [json.loads(line) for line in Path("data/train.jsonl").read_text().splitlines()]
    for at in range(rows):
        lines[at]["premise"] = f"这部电影非常好看，我很喜欢。{at}"
        lines[at]["hypothesis"] = "好看"
    superglue.put(Path("data/train.jsonl"), lines)


def test_unknown_tokens_are_told_with_the_rows(material: Material, ptv2: Ptv2) -> None:
    chinese(3)
    material.write(Path("config.yaml"), task=material.task(data="data"))
    line = "the backbone's vocabulary does not know: "
    result = ptv2("check")
    assert result.code == 0
    assert line in result.err
    assert "of train (more than half in 3 rows); ptv2 check" in result.err
    assert ptv2("train").code == 0
    warnings = json.loads((only_run() / "metrics.json").read_text())["warnings"]
    assert any(line in text for text in warnings)


def test_few_rows_of_nothing_else_are_told_too(material: Material, ptv2: Ptv2) -> None:
    chinese(1, of=160)
    material.write(Path("config.yaml"), task=material.task(data="data"))
    assert ptv2("check").err == ""
    chinese(2, of=160)
    err = ptv2("check").err
    assert "does not know: 2." in err
    assert "% of train (more than half in 2 rows); ptv2 check" in err


def test_text_in_another_language_than_the_vocabulary(
    material: Material, ptv2: Ptv2, refused: Refused
) -> None:
    chinese(24)
    material.write(Path("config.yaml"), task=material.task(data="data"))
    says = "of the tokens of train are unknown to the vocabulary of"
    for words in (["train"], ["train", "--dry-run"]):
        result = refused(*words, says=[says])
        assert "take a backbone whose vocabulary has the language of the data" in result.err
    checked = ptv2("check", "--show", "1")
    assert checked.code == 2
    assert says in checked.err
    assert "[CLS] [UNK]" in checked.out
    assert "no problems found" not in checked.out


def test_a_sweep_is_refused_as_its_runs_are(material: Material, refused: Refused) -> None:
    chinese(24)
    material.write(Path("config.yaml"), task=material.task(data="data"))
    refused("sweep", "--prompt-len", "2,3", says=["of the tokens of train are unknown"])


def test_bytes_are_never_unknown(material: Material, ptv2: Ptv2, folder_of: Any) -> None:
    chinese(24)
    task = material.task(data="data")
    material.write(Path("config.yaml"), task=task, backbone=str(folder_of("roberta")))
    result = ptv2("check")
    assert result.code == 0, result.err
    assert "unknown" not in result.out
    assert "does not know" not in result.err


# One answer for all rows


def only(name: str, change: Any) -> None:
    path = Path("data") / name
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("kind", "name", "change", "says"),
    [
        (
            "classification",
            "train.jsonl",
            lambda text: text.replace("not_entailment", "entailment"),
            "all 24 train rows have the label 'entailment': nothing to learn",
        ),
        (
            "answers",
            "train.jsonl",
            lambda text: text.replace('"label": 0', '"label": 1'),
            "train rows have the label 'true': nothing to learn",
        ),
        (
            "tagging",
            "train.txt",
            lambda text: text.replace("B-PER", "O").replace("B-LOC", "O"),
            "train rows have the tag O at every word",
        ),
        (
            "qa",
            "train.json",
            lambda text: text.replace('"is_impossible": false', '"is_impossible": true'),
            "train rows have no answer: nothing to learn",
        ),
    ],
)
def test_train_with_one_answer_is_refused(
    kind: str, name: str, change: Any, says: str, material: Material, refused: Refused
) -> None:
    section = {**KINDS[kind](Path("data")), "data": "data", "max_len": 30}
    only(name, change)
    material.write(Path("config.yaml"), task=section, report=["validation"])
    for command in ("check", "train"):
        refused(command, says=[f"{name}: all ", says])


def test_a_limit_that_leaves_one_label(material: Material, refused: Refused) -> None:
    shutil.copytree(material.rte, "data")
    task = material.task(data="data", limit={"train": 1})
    material.write(Path("config.yaml"), task=task)
    refused(
        "train", says=["raise task.limit.train (now 1), or add sample: stratified", "nothing to"]
    )


# Cells and labels that were probably not meant so


def test_cells_for_a_missing_value_are_named_with_counts(material: Material, ptv2: Ptv2) -> None:
    rows = [{"text": f"{word} sat", "label": "xy"[at % 2]} for at, word in enumerate(WORDS)]
    rows += [{"text": "NaN", "label": "x"}, {"text": "NaN", "label": "nan"}]
    jsonl(Path("data"), rows, rows[:4])
    task = {"name": "text/classification", "data": "data", "max_len": 24}
    material.write(Path("config.yaml"), task=task)
    line = (
        "train has cells that stand for a missing value: text 'NaN' in 2 rows, label 'nan' in 1 row"
    )
    assert line in ptv2("check").err
    assert ptv2("train").code == 0
    warnings = json.loads((only_run() / "metrics.json").read_text())["warnings"]
    assert any(text.startswith(line) for text in warnings)


def test_an_empty_cell_of_a_benchmark(material: Material, ptv2: Ptv2) -> None:
    shutil.copytree(material.rte, "data")
    row = {"premise": "", "hypothesis": "ann sat", "label": "entailment"}
    with Path("data/val.jsonl").open("a") as file:
        file.write(f"{json.dumps(row)}\n")
    material.write(Path("config.yaml"), task=material.task(data="data"))
    err = ptv2("check").err
    assert "validation has cells that stand for a missing value: premise '' in 1 row;" in err


def test_a_missing_choice(material: Material, ptv2: Ptv2) -> None:
    rows = [
        {"text": word, "choices": ["nan", f"{word} sat"], "label": at % 2}
        for at, word in enumerate(WORDS)
    ]
    jsonl(Path("data"), rows, [{"text": "a", "choices": ["a", "dog"], "label": 0}])
    task = {"name": "text/choice", "data": "data", "max_len": 24}
    material.write(Path("config.yaml"), task=task)
    assert "choice 'nan' in 8 rows" in ptv2("check").err


def test_labels_that_differ_by_case_or_spaces_alone(material: Material, ptv2: Ptv2) -> None:
    labels = ["good", "Good", "good ", "not bad", "notbad", "bad", "bad", "good"]
    lines = [f"{word} sat,{label}" for word, label in zip(WORDS, labels, strict=True)]
    Path("data").mkdir()
    Path("data/train.csv").write_text("\n".join(["text,label", *lines]))
    Path("data/val.csv").write_text("text,label\nann ran,good\nbob ran,bad\n")
    task = {"name": "text/classification", "data": "data", "max_len": 24}
    material.write(Path("config.yaml"), task=task)
    err = ptv2("check").err
    assert "differ by case or spaces alone: 'good' (3) and 'Good' (1) are learnt as" in err
    assert "alone: 'not bad' (1) and 'notbad' (1) are learnt as different classes" in err
    assert "labels of train that differ by spaces around them are read as one: " in err
    assert "'good' (2) and 'good ' (1)" in err


def test_types_of_entities_that_differ_by_case(material: Material, ptv2: Ptv2) -> None:
    Path("data").mkdir()
    Path("data/train.txt").write_text("ann B-PER\nsat O\n\nbob B-per\nran O\n")
    Path("data/valid.txt").write_text("carl B-PER\nran O\n")
    task = {"name": "text/tagging", "data": "data", "max_len": 24}
    material.write(Path("config.yaml"), task=task)
    assert "'PER' (1) and 'per' (1) are learnt as different classes" in ptv2("check").err
