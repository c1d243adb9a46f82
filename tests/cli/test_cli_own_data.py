"""A person's own data of all four kinds, in Chinese: train, a config that is complete, eval."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from commandline import Ptv2, only_run

from ptv2_cli.runs.directory import RunDirectory

PLACES = ["北京", "上海", "南京"]
SIGNS = sorted(set("我在他去了很好坏说今天吃雨谁哪里的。？" + "".join(PLACES)))


@pytest.fixture(scope="session")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT whose tokenizer knows single characters."""
    from transformers import BertTokenizerFast

    vocab = {sign: at for at, sign in enumerate([*tiny.SPECIALS, *SIGNS])}
    folder = tmp_path_factory.mktemp("chinese")
    tiny.save_model(folder, "bert", tokenizer=False, vocab_size=len(vocab))
    BertTokenizerFast(vocab=vocab, tokenize_chinese_chars=True).save_pretrained(folder)
    return folder


def classes(name: str, rows: int) -> dict[str, Any]:
    lines = [f"他说今天很{'好坏'[i % 2]}。,{['好评', '差评'][i % 2]},{i}" for i in range(rows)]
    path = Path(f"{name}.csv")
    path.write_text("\n".join(["\ufeff文本,情感,编号", *lines]) + "\n", encoding="utf-8")
    return {name: path.name, "text": "文本", "label": "情感"}


def numbers(name: str, rows: int) -> dict[str, Any]:
    lines = [f"今天{'很' * (i % 4)}好 {i}\t{10 * (i % 4)}" for i in range(rows)]
    path = Path(f"{name}.tsv")
    path.write_text("\n".join(["文本\t分数", *lines]) + "\n", encoding="utf-8")
    return {name: path.name, "text": ["文本"], "label": "分数"}


def entities(name: str, rows: int) -> dict[str, Any]:
    sentences = []
    for i in range(rows):
        first, last = PLACES[i % 3]
        sentences.append(f"我 O\n在 O\n{first} B-地名\n{last} E-地名\n")
    path = Path(f"{name}.txt")
    path.write_text("\n".join(sentences), encoding="utf-8")
    return {name: path.name}


def questions(name: str, rows: int) -> dict[str, Any]:
    paragraphs = []
    for i in range(rows):
        text = f"他今天去了{PLACES[i % 3]}。"
        answers = [{"text": PLACES[i % 3], "answer_start": 5}]
        asked = {"id": f"{name}{i}", "question": "他去了哪里？", "answers": answers}
        paragraphs.append({"context": text, "qas": [asked]})
    path = Path(f"{name}.json")
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return {name: path.name}


Make = Callable[[str, int], dict[str, Any]]
KINDS = [
    pytest.param(
        "text/classification", classes, {"labels": ["好评", "差评"]}, "label", id="classification"
    ),
    pytest.param(
        "text/regression", numbers, {"mean": 15.0, "deviation": 11.1803}, None, id="number"
    ),
    pytest.param(
        "text/tagging",
        entities,
        {"scheme": "bioes", "labels": ["O", "B-地名", "I-地名"]},
        "tags",
        id="tagging",
    ),
    pytest.param("text/qa", questions, {"metric": "char", "no_answer": False}, "answer", id="qa"),
]


@pytest.mark.parametrize(("task", "make", "found", "key"), KINDS)
def test_own_chinese_data(
    ptv2: Ptv2, chinese: Path, task: str, make: Make, found: dict[str, Any], key: str | None
) -> None:
    section = {"name": task, "max_len": 30, **make("train", 8), **make("validation", 4)}
    config = {
        "method": "ptuning_v2",
        "backbone": str(chinese),
        "task": section,
        "prompt_len": 3,
        "train": {"steps": 4, "batch_size": 4, "lr": 0.05},
    }
    Path("config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    assert ptv2("check", "config.yaml", "--show", "1").code == 0
    trained = ptv2("train", "config.yaml")
    assert trained.code == 0, trained.err
    run = only_run()
    written = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["task"]
    assert {name: written[name] for name in found} == {
        name: sorted(value) if name == "labels" and task == "text/classification" else value
        for name, value in found.items()
    }
    metrics = RunDirectory(run).read_metrics()
    assert metrics["task"].get("metric") == found.get("metric")
    lines = (run / "predictions" / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    for line in map(json.loads, lines):
        assert line.keys() == {"row", "prediction", "gold"}
        prediction = line["prediction"]
        assert isinstance(prediction, float) if key is None else key in prediction
    # The run directory is a config of the same run, whether labels are found or given there.
    assert ptv2("train", run / "config.yaml").code == 0
    assert only_run() == run
    for path in Path.cwd().glob("train.*"):
        path.unlink()
    again = ptv2("eval")
    assert again.code == 0, again.err
    assert "equal" in again.out


def test_train_alone_holds_a_part_out(ptv2: Ptv2, chinese: Path) -> None:
    config = {
        "method": "head_only",
        "backbone": str(chinese),
        "task": {"name": "text/regression", "max_len": 30, **numbers("train", 20)},
        "train": {"steps": 2, "batch_size": 4, "lr": 0.05},
    }
    Path("config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    trained = ptv2("train", "config.yaml")
    assert trained.code == 0, trained.err
    assert "a tenth of train is held out" in trained.err
    metrics = RunDirectory(only_run()).read_metrics()
    assert metrics["data"]["holdout"]["rows"] == 2
    assert metrics["majority_baseline"] == {"pearson": 0.0, "spearman": 0.0}


def test_a_whole_folder_by_name(ptv2: Ptv2, chinese: Path) -> None:
    section = classes("train", 8)
    classes("dev", 4)
    del section["train"]
    config = {
        "method": "head_only",
        "backbone": str(chinese),
        "task": {"name": "text/classification", "data": ".", "max_len": 30, **section},
        "train": {"steps": 2, "batch_size": 4, "lr": 0.05},
    }
    Path("config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    assert ptv2("train", "config.yaml").code == 0
    assert RunDirectory(only_run()).read_metrics()["data"]["validation"]["rows"] == 4
    # The same files one by one, elsewhere, with the labels given: the same run.
    Path("other").mkdir()
    for name in ("train.csv", "dev.csv"):
        Path(name).rename(Path("other") / f"my-{name}")
    files = {"train": "other/my-train.csv", "validation": "other/my-dev.csv"}
    del config["task"]["data"]
    config["task"] = {**config["task"], **files, "labels": ["好评", "差评"]}
    Path("again.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    assert ptv2("train", "again.yaml").code == 0
    assert only_run()
