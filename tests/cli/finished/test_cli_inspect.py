"""`ptv2 inspect`: tables for people, JSON for programs, a picture; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import lm
import pytest
import tiny
import transformers
from commandline import Material, Ptv2, Refused, only_run


def test_attention_for_people(finished: Path, ptv2: Ptv2, screen: None) -> None:
    result = ptv2("inspect", finished, "--rows", 4)
    assert result.code == 0, result.err
    assert "attention on the prompt, 4 rows of validation, " in result.out
    lines = [line.split() for line in result.out.splitlines()]
    rows = [line for line in lines if line and line[0] in {"1", "2", "3"} and len(line) == 7]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    for row in rows:
        share, least, most, even = map(float, row[1:5])
        assert least <= share <= most
        assert 0 < even < 100
    assert max(map(len, result.out.splitlines()[1:])) <= 80  # the path stays whole


def test_json_and_a_picture(finished: Path, ptv2: Ptv2) -> None:
    pytest.importorskip("matplotlib")
    result = ptv2("inspect", "--format", "json", "--split", "test", "--plot", "out/heads.svg")
    assert result.code == 0, result.err
    assert "wrote out/heads.svg" in result.err
    content = json.loads(result.out)
    assert (content["split"], content["rows"], content["nearest_words"]) == ("test", 4, None)
    assert [layer["layer"] for layer in content["attention"]] == [1, 2, 3]
    for layer in content["attention"]:
        assert len(layer["heads"]) == 4
        assert sum(layer["positions"]) == pytest.approx(layer["share"])
        assert len(layer["keys"]["prompt"]) == 3
    texts = [item.text for item in ElementTree.parse("out/heads.svg").iter() if item.text]
    assert {"head", "layer", "mean"} <= {text.strip() for text in texts}


def test_a_decoder_counts_the_tokens_of_its_answers(material: Material, ptv2: Ptv2) -> None:
    task = {"name": "text/generation", "data": str(lm.write_texts(Path("rows"))), "max_len": 30}
    folder = lm.save_writer(Path("t5"), "t5")
    config = material.write(
        Path("config.yaml"), backbone=str(folder), task=task, generate={"max_new_tokens": 7}
    )
    assert ptv2("train", config).code == 0
    content = json.loads(ptv2("inspect", "--rows", 4, "--format", "json").out)
    rows = [json.loads(line) for line in Path("rows/val.jsonl").read_text().splitlines()[:4]]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    answers = [len(tokenizer(row["output"])["input_ids"]) + 1 for row in rows]  # with the end
    for layer in content["attention"]:
        assert (layer["tokens"] == sum(answers)) == (layer["stack"] != "encoder")


def test_nearest_words(material: Material, ptv2: Ptv2, screen: None) -> None:
    config = material.write(
        Path("config.yaml"), method="prompt_tuning", train={"steps": 1, "lr": 1e-6}
    )
    assert ptv2("train", config).code == 0
    result = ptv2("inspect")
    assert result.code == 0, result.err
    assert "nearest words of each vector" in result.out
    assert "Near words are not what a prompt means" in " ".join(result.out.split())
    assert "1.00" in result.out  # the words where it began
    assert max(map(len, result.out.splitlines())) <= 80
    content = json.loads(ptv2("inspect", "--format", "json").out)
    positions = content["nearest_words"]["positions"]
    assert len(positions) == 3
    assert all(len(position["words"]) == 5 for position in positions)


def test_refused(finished: Path, material: Material, ptv2: Ptv2, refused: Refused) -> None:
    refused("inspect", "absent", says=["there is no such run directory"])
    refused("inspect", finished, "--split", "tests", says=["unknown split 'tests'"])
    says = ["--split holdout: the run held no rows out of train", "--split validation"]
    refused("inspect", finished, "--split", "holdout", says=says)
    refused("inspect", finished, "--plot", "a.pdf", says=["a.pdf does not end in .png or .svg"])
    refused("inspect", finished, "--rows", "0", says=["--rows"])
    (finished / "metrics.json").rename(finished / "kept.json")
    refused("inspect", finished, says=["the run has not finished", "continues it"])
    config = material.write(Path("other.yaml"), method="head_only")
    assert ptv2("train", config, "--output", "others").code == 0
    run = only_run(Path("others"))
    refused("inspect", run, says=["head_only has no prompt to look at", "name a run of ptuning_v2"])


@pytest.mark.parametrize("kind", ["token", "span", "choice", "several"])
def test_every_kind_of_task(kind: str, material: Material, ptv2: Ptv2) -> None:
    ner = {"name": "ner/conll2003", "data": str(material.ner), "max_len": 24}
    tasks: dict[str, dict[str, object]] = {
        "token": {"task": ner},
        "span": {"task": {"name": "qa/squad", "data": str(material.squad), "max_len": 24}},
        "choice": {"task": {"name": "text/choice", "data": str(tiny.write_choice(Path("rows")))}},
        "several": {"task": None, "tasks": [ner, {**ner, "name": "text/tagging"}]},
    }
    config = material.write(Path("config.yaml"), **tasks[kind])
    assert ptv2("train", config).code == 0
    result = ptv2("inspect", "--rows", 5, "--format", "json")
    assert result.code == 0, result.err
    content = json.loads(result.out)
    assert len(content["attention"]) == 3
    # Of several tasks equal numbers of rows are read.
    assert content["rows"] == {"token": 4, "span": 4, "choice": 5, "several": 4}[kind]
