"""Data that cannot be used: named by file and line, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Refused

TASKS = {"rte": "superglue/rte", "ner": "ner/conll2003", "squad": "qa/squad"}
Spoil = Callable[[Path], None]


def append(name: str, text: str) -> Spoil:
    def spoil(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return spoil


def write(name: str, text: str) -> Spoil:
    return lambda folder: (folder / name).write_text(text) and None


def remove(*names: str) -> Spoil:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def rte(**changes: Any) -> str:
    row = {"premise": "ann sat", "hypothesis": "ann ran", "label": "entailment", **changes}
    return json.dumps({key: value for key, value in row.items() if value is not None}) + "\n"


def answer(text: str, start: int) -> Spoil:
    """The answer of the second question."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / "train.json").read_text())
        question = content["data"][0]["paragraphs"][1]["qas"][0]
        question["answers"] = [{"text": text, "answer_start": start}] if text else []
        (folder / "train.json").write_text(json.dumps(content))

    return spoil


@pytest.mark.parametrize(
    ("kind", "spoil", "says"),
    [
        pytest.param(
            "rte",
            append("train.jsonl", '{"premise": "a"\n'),
            ["train.jsonl:9: no JSON", "every line must be one JSON object"],
            id="malformed line",
        ),
        pytest.param(
            "rte", append("train.jsonl", "[1]\n"), ["train.jsonl:9: no JSON object"], id="a list"
        ),
        pytest.param(
            "rte",
            append("val.jsonl", rte(label="maybe")),
            ["val.jsonl:7: ", "label 'maybe'", "entailment, not_entailment"],
            id="unknown label",
        ),
        pytest.param(
            "rte",
            append("train.jsonl", rte(hypothesis=None)),
            ["train.jsonl:9: no column 'hypothesis'", "columns here: premise, label"],
            id="missing column",
        ),
        pytest.param(
            "rte",
            append("train.jsonl", rte(premise=3)),
            ["train.jsonl:9: column 'premise' holds 3"],
            id="number for text",
        ),
        pytest.param(
            "rte", write("train.jsonl", ""), ["train.jsonl: the train data is empty"], id="empty"
        ),
        pytest.param(
            "rte", write("val.jsonl", "\n\n"), ["val.jsonl: the validation data"], id="blank"
        ),
        pytest.param(
            "rte", remove("train.jsonl"), ["looked for train.*): no train data"], id="no train"
        ),
        pytest.param("rte", shutil.rmtree, ["the data folder does not exist"], id="no folder"),
        pytest.param(
            "rte", write("dev.jsonl", rte()), ["both claim to be the validation data"], id="two"
        ),
        pytest.param(
            "ner",
            append("train.txt", "\n\nann B-PER\nparis\n"),
            ["one column: 'paris'", "a line is WORD TAG"],
            id="one column",
        ),
        pytest.param(
            "ner", append("train.txt", "\n\nann B-FOO\n"), ["label 'B-FOO'"], id="unknown tag"
        ),
        pytest.param(
            "squad",
            answer("zebra", 0),
            ["train.json: question train1: answer 'zebra'", "it stands nowhere in it"],
            id="answer not in context",
        ),
        pytest.param(
            "squad",
            answer("dora", 900),
            ["answer 'dora' does not stand at character 900", "it first stands at character"],
            id="answer elsewhere",
        ),
        pytest.param("squad", answer("", 0), ["use task: qa/squad_v2"], id="no answer"),
        pytest.param(
            "squad", write("train.json", "{"), ["train.json:1: no JSON"], id="truncated json"
        ),
        pytest.param(
            "squad", write("train.json", "{}"), ["not SQuAD's layout: no 'data'"], id="layout"
        ),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_bad_data(
    material: Material, refused: Refused, command: str, kind: str, spoil: Spoil, says: list[str]
) -> None:
    shutil.copytree(getattr(material, kind), "data")
    spoil(Path("data"))
    material.write(Path("config.yaml"), task={"name": TASKS[kind], "data": "data", "max_len": 24})
    refused(command, "config.yaml", says=[*says, "  -> "] if kind != "squad" else says)


def test_line_of_a_word_without_tag(material: Material, refused: Refused) -> None:
    shutil.copytree(material.ner, "data")
    Path("data/train.txt").write_text("-DOCSTART- O\n\nann B-PER\nsat O\n\nparis\n")
    material.write(Path("config.yaml"), task={"name": "ner/conll2003", "data": "data"})
    refused("train", "config.yaml", says=["data/train.txt:6: one column: 'paris'"])


def test_reported_split_without_labels(material: Material, refused: Refused) -> None:
    shutil.copytree(material.rte, "data")
    Path("data/test.jsonl").write_text(rte(label=None))
    task = material.task(data="data")
    material.write(Path("config.yaml"), task=task, report=["validation", "test"])
    refused("train", "config.yaml", says=["row 1 of the test split has no label", "report"])


@pytest.mark.parametrize("how", ["--offline", "environment"])
def test_all_that_is_missing_offline(
    material: Material, refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if how == "environment" else "0")
    material.write(Path("config.yaml"), backbone="some/model", task="superglue/rte")
    said = refused(
        "train",
        "config.yaml",
        *(["--offline"] if how == "--offline" else []),
        says=[
            "error: backbone some/model: is not in the local cache of the hub",
            "-> hf download some/model\n",
            "error: config.yaml:3: data set ",
            "-> hf download --repo-type dataset ",
        ],
    )
    assert said.err.count("error: ") == 2
