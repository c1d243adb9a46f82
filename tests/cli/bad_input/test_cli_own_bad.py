"""A person's own data that cannot be used: where, what is wrong, what to type; exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2, Refused

GOOD = "text,label\nann sat,yes\nbob ran,no\n"


def write(material: Material, rows: str | bytes = GOOD, dev: str = GOOD, **task: Any) -> None:
    data = rows.encode() if isinstance(rows, str) else rows
    Path("train.csv").write_bytes(data)
    Path("dev.csv").write_text(dev, encoding="utf-8")
    section = {
        "name": "text/classification",
        "train": "train.csv",
        "validation": "dev.csv",
        "max_len": 20,
    }
    material.write(Path("config.yaml"), task={**section, **task})


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize(
    ("train", "dev", "task", "says"),
    [
        pytest.param(
            GOOD.replace("text,", "Text,"),
            GOOD,
            {},
            ["train.csv:1: no column 'text'", "did you mean 'Text'? columns here: Text, label"],
            id="column",
        ),
        pytest.param(
            GOOD,
            GOOD,
            {"label": "class"},
            ["train.csv:1: no column 'class'", "columns here: text, label"],
            id="label column",
        ),
        pytest.param(
            GOOD,
            GOOD.replace("no", "maybe"),
            {},
            ["dev.csv:3: label 'maybe' is none of the task's", "labels of this task: no, yes"],
            id="other labels",
        ),
        pytest.param(
            GOOD.replace("bob ran", '" "'),
            GOOD,
            {},
            ["train.csv:3: column 'text' is empty"],
            id="empty text",
        ),
        pytest.param(
            GOOD.replace("bob", "renée").encode("latin1"),
            GOOD,
            {},
            ["train.csv:3: not UTF-8: byte 0xe9", "-> it looks like LATIN1: task.encoding: LATIN1"],
            id="encoding",
        ),
        pytest.param(
            GOOD.replace("ann sat", "他说很好").encode("gb18030"),
            GOOD,
            {},
            ["train.csv:2: not UTF-8", "-> it looks like GB18030", "iconv -f GB18030 -t UTF-8 "],
            id="chinese encoding",
        ),
        pytest.param(
            GOOD.replace(",", ";"),
            GOOD,
            {"delimiter": ","},
            ["train.csv:1: the header is one column", "separated by semicolons, not by commas"],
            id="semicolons",
        ),
        pytest.param(
            GOOD,
            GOOD,
            {"train": "tran.csv"},
            ["tran.csv: there is no such file", "did you mean train.csv?"],
            id="no such file",
        ),
    ],
)
def test_bad_table(
    material: Material,
    refused: Refused,
    command: str,
    train: str | bytes,
    dev: str,
    task: dict[str, Any],
    says: list[str],
) -> None:
    write(material, train, dev, **task)
    refused(command, "config.yaml", says=says)


def test_where_the_data_is_must_be_said(material: Material, refused: Refused) -> None:
    material.write(Path("config.yaml"), task={"name": "text/classification", "max_len": 20})
    says = ["text/classification needs to know where the data is", "train: FILE, validation: FILE"]
    refused("train", "config.yaml", says=says)


def test_wrong_options_are_told_at_once(material: Material, refused: Refused) -> None:
    write(material, text=["a", "a"], labels=["x"], lable="y")
    says = [
        "task.text: names one column or two different ones",
        "task.labels: names two or more different labels",
        "unknown key task.lable",
        "did you mean task.label",
    ]
    refused("train", "config.yaml", says=says)


def test_split_names_of_elsewhere(material: Material, refused: Refused) -> None:
    write(material, dev="")
    material.write(
        Path("config.yaml"), task={"name": "text/qa", "train": "train.csv", "val": "dev.csv"}
    )
    refused("train", "config.yaml", says=["unknown key task.val", "task.validation"])


def test_a_score_that_is_no_number(material: Material, refused: Refused) -> None:
    write(material, GOOD, name="text/regression")
    refused("train", "config.yaml", says=["train.csv:2: column 'label' holds 'yes': no number"])


def test_tags_of_no_scheme(material: Material, refused: Refused) -> None:
    write(material)
    Path("train.conll").write_text("ann NNP\nsat VB\n")
    task = {"name": "text/tagging", "train": "train.conll", "max_len": 20}
    material.write(Path("config.yaml"), task=task)
    refused("train", "config.yaml", says=["train.conll:1: tag 'NNP' is no tag of BIO"])


def test_tags_of_another_scheme_than_train(material: Material, refused: Refused) -> None:
    Path("train.conll").write_text("ann B-PER\nsat O\n")
    Path("dev.conll").write_text("ann S-PER\nsat O\n")
    task = {"name": "text/tagging", "train": "train.conll", "validation": "dev.conll"}
    material.write(Path("config.yaml"), task={**task, "max_len": 20})
    for command in ("check", "train"):
        says = ["dev.conll:1: tag 'S-PER' in a file of the scheme bio, which is that of train"]
        refused(command, says=says)


@pytest.mark.parametrize("name", ["text/qa", "qa/squad", "qa/squad_v2"])
@pytest.mark.parametrize("answers", [5, "ann", True])
def test_answers_that_are_no_list(
    material: Material, refused: Refused, name: str, answers: Any
) -> None:
    asked = {"id": "q1", "question": "who ?", "answers": answers}
    content = {"data": [{"paragraphs": [{"context": "ann sat", "qas": [asked]}]}]}
    Path("train.json").write_text(json.dumps(content))
    task = {"name": name, "train": "train.json", "max_len": 20}
    material.write(Path("config.yaml"), task=task)
    refused("check", says=[f"question q1: answers {answers!r} are no list", '"answer_start"'])


@pytest.mark.parametrize(
    ("name", "label", "says"),
    [
        ("text/regression", "1e300", "column 'label' holds 1e+300: too large a number"),
        ("text/regression", "9" * 500, "no number"),
        ("text/choice", "9" * 5000, "is no index of a choice"),
    ],
)
def test_numbers_of_any_size(
    material: Material, refused: Refused, name: str, label: str, says: str
) -> None:
    rows = f"text,a,b,label\nann,it sat,it ran,{label}\nann,it sat,it ran,-{label}\n"
    if name == "text/choice":
        write(material, rows, rows, name=name, choices=["a", "b"], label_is="index")
    else:
        write(material, rows, rows, name=name)
    refused("check", says=["train.csv", says])


def test_labels_of_thousands_of_digits_are_texts(material: Material, ptv2: Ptv2) -> None:
    rows = f"text,label\nann sat,{'9' * 5000}\nbob ran,1\n"
    write(material, rows, rows)
    assert ptv2("check").code == 0


def test_an_answer_that_is_not_in_its_text(material: Material, refused: Refused) -> None:
    answers = [{"text": "zebra", "answer_start": 0}]
    asked = {"id": "q1", "question": "who ?", "answers": answers}
    content = {"data": [{"paragraphs": [{"context": "ann sat", "qas": [asked]}]}]}
    Path("train.json").write_text(json.dumps(content))
    task = {"name": "text/qa", "train": "train.json", "max_len": 20}
    material.write(Path("config.yaml"), task=task)
    refused("train", "config.yaml", says=["train.json: question q1: answer 'zebra'"])
