"""Semantic roles and entities from official files to a run, its predictions and comparisons."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import conll_files
import pytest
import tiny
import yaml

from ptv2_cli import load
from ptv2_cli.cli.app import run as ptv2
from ptv2_cli.data.rows import Split
from ptv2_cli.report.compare import compare, open_finished
from ptv2_cli.runs.rows.row_selection import hold_out

METRICS = {f"{name}{form}" for name in ("precision", "recall", "f1") for form in ("", "_reference")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conll_files.write_2005(tmp_path_factory.mktemp("data") / "srl", 60, 12)


def write(path: Path, backbone: Path, task: str, data: Path, **changes: Any) -> Path:
    train = {"lr": 0.03, "epochs": 10, "batch_size": 8, "eval_batch_size": 7, "seed": 11}
    section = {"name": task, "data": str(data), **changes.pop("options", {})}
    return tiny.write_config(path, backbone, data, task=section, train=train, **changes)


@pytest.fixture(scope="module")
def runs(
    data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """A run that learnt and one that had no time to: their folders and metrics.json."""
    root = tmp_path_factory.mktemp("runs")
    # A random model knows no language: it is trained as a whole, from weights that allow it.
    bert = tiny.save_model(root / "bert", "bert", initializer_range=0.08)
    method = {"method": "finetune", "prompt_len": None}
    config = write(root / "config.yaml", bert, "srl/conll2005", data, **method)
    made = {}
    for name, train in (
        ("learnt", ["train.lr=4e-3"]),
        ("short", ["train.lr=1e-6", "train.epochs=1"]),
    ):
        session, metrics = tiny.trained(config, root / "out", "backbone.dropout=off", *train)
        made[name] = (session.resolved_run.directory.path, metrics)
    return made


def lines_of(path: Path, split: str = "validation") -> list[dict[str, Any]]:
    text = (path / "predictions" / f"{split}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_it_is_learnt(runs: dict[str, Any]) -> None:
    _, metrics = runs["learnt"]
    assert metrics["metrics"].keys() == {"validation", "test"}
    scores = metrics["metrics"]["validation"]
    assert scores.keys() == METRICS
    assert scores["f1"] > runs["short"][1]["metrics"]["validation"]["f1"] + 0.3
    assert scores["f1"] < scores["f1_reference"]  # the verb is easy: it is given
    assert metrics["selection"]["metric"] == "f1"
    assert metrics["majority_baseline"] == dict.fromkeys(METRICS, 0.0)
    assert metrics["config"]["task"]["max_len"] == tiny.POSITIONS
    assert metrics["config"]["task"]["labels"][:3] == ["O", "B-A0", "I-A0"]
    assert {name: found["rows"] for name, found in metrics["data"].items()} == {
        "train": 90,
        "validation": 18,
        "test": 15,
    }


def test_detail_has_roles_and_both_tests(runs: dict[str, Any]) -> None:
    detail = runs["learnt"][1]["detail"]
    assert detail["validation"].keys() == {"roles", "propositions"}
    assert detail["validation"]["roles"]["R-A0"]["support"] == 6
    found = detail["test"]["corpora"]
    assert {name: figures["support"] for name, figures in found.items()} == {"brown": 16, "wsj": 24}
    assert detail["test"]["propositions"] == 15


def test_prediction_lines(runs: dict[str, Any]) -> None:
    lines = lines_of(runs["learnt"][0])
    assert len(lines) == 18
    for line in lines:
        row, prediction = line["row"], line["prediction"]
        assert len(row["tokens"]) == len(prediction["tags"]) == len(line["gold"])
        for entity in prediction["entities"]:
            words = row["tokens"][entity["start"] : entity["end"]]
            assert entity["text"].split() == words
            assert 0 < entity["probability"] <= 1
    assert {line["row"]["corpus"] for line in lines_of(runs["learnt"][0], "test")} == {
        "wsj",
        "brown",
    }


def test_the_answer_depends_on_the_predicate(runs: dict[str, Any]) -> None:
    tokens = ["ann", "likes", "bob", "who", "sees", "the", "cat"]
    run = load(runs["learnt"][0], device="cpu")
    one, other = run.predict([{"tokens": tokens, "predicate": at} for at in (1, 4)])
    assert one["prediction"]["tags"] != other["prediction"]["tags"]
    wanted = {line["row"]["predicate"]: line for line in lines_of(runs["learnt"][0])}
    assert wanted.keys() == {1, 4}


def test_the_command_line(
    runs: dict[str, Any], tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(runs["learnt"][0])
    rows = tmp_path / "new.jsonl"
    rows.write_text('{"text": "ann sees the cat", "predicate": 1}\n{"text": "ann"}\n')
    assert ptv2(["predict", str(rows), "--run", path, "--offline"]) == 2
    shown = capsys.readouterr()
    assert "new.jsonl:2" in shown.err
    assert "predicate" in shown.err
    assert json.loads(shown.out.splitlines()[0])["row"]["predicate"] == 1
    assert ptv2(["eval", path, "--split", "test", "--offline"]) == 0
    assert ptv2(["eval", path, "--data", str(data / "test.brown"), "--offline"]) == 0
    config = Path(path) / "config.yaml"
    capsys.readouterr()
    assert ptv2(["check", str(config), "--show", "2", "--offline"]) == 0
    shown = capsys.readouterr()
    assert "likes/B-V" in shown.out or "sees/B-V" in shown.out
    assert "[SEP]" in shown.out
    assert ptv2(["report", path, "--detail"]) == 0
    shown = capsys.readouterr()
    assert "role" in shown.out
    assert "AM-LOC" in shown.out


def test_compare_is_a_paired_bootstrap(runs: dict[str, Any]) -> None:
    found = compare([open_finished(runs["short"][0])], [open_finished(runs["learnt"][0])])
    assert found.metric == "f1"
    assert found.tests["f1"].name == "bootstrap"
    assert found.tests["f1"].p < 0.05
    assert found.scores.keys() == METRICS
    assert {each.better for each in found.disagreements} <= {"a", "b", "-"}


def test_a_holdout_keeps_a_sentence_together(
    folder_of: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    config = write(tmp_path / "x.yaml", folder_of("bert"), "srl/conll2005", data)
    session = tiny.opened(config, tmp_path / "out")
    rows = session.resolved_run.data.rows("train")
    kept, taken = hold_out(session.resolved.task, Split(rows, "0"), 0.3, 11)
    sides = [{tuple(row["tokens"]) for row in side.rows} for side in (kept, taken)]
    assert sides[1]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize(
    ("task", "family"),
    [("srl/conll2012", "roberta"), ("ner/ontonotes", "bert"), ("srl/conll2012", "llama")],
)
def test_the_tree_of_conll_2012(
    task: str, family: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    data = conll_files.write_2012(tmp_path / "tree", 12, 6)
    options = {"separator": "literal"} if family == "llama" else {}
    config = write(tmp_path / "x.yaml", folder_of(family), task, data, options=options)
    _, metrics = tiny.trained(config, tmp_path / "out", "train.epochs=1", "train.batch_size=4")
    assert metrics["status"] == "finished"
    assert metrics["metrics"].keys() == {"validation", "test"}
    assert metrics["data"]["train"]["rows"] == (12 if task.startswith("ner") else 18)


def test_ptuning_v1_and_other_methods(
    folder_of: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    for method, length in (("ptuning_v1", 4), ("prompt_tuning", 3), ("head_only", None)):
        config = write(
            tmp_path / f"{method}.yaml",
            folder_of("bert"),
            "srl/conll2005",
            data,
            method=method,
            prompt_len=length,
        )
        _, metrics = tiny.trained(config, tmp_path / "out", "train.epochs=1")
        assert metrics["metrics"]["test"].keys() == METRICS


def test_entities_of_2012_columns_are_predicted(
    folder_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = conll_files.write_2012(tmp_path / "tree", 12, 6)
    config = write(tmp_path / "x.yaml", folder_of("bert"), "ner/ontonotes", data)
    session, _ = tiny.trained(config, tmp_path / "out", "train.epochs=1")
    new = tmp_path / "new.v4_gold_conll"
    new.write_text(conll_files.text_2012(conll_files.sentences(2, 9)))
    path = str(session.resolved_run.directory.path)
    assert ptv2(["predict", str(new), "--run", path, "--offline"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["row"]["tokens"] for line in lines] == [s[0] for s in conll_files.sentences(2, 9)]


def test_without_data_it_is_said_what_to_pass(
    folder_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "x.yaml"
    content = {
        "method": "ptuning_v2",
        "backbone": str(folder_of("bert")),
        "task": "srl/conll2012",
        "prompt_len": 3,
    }
    config.write_text(yaml.safe_dump(content))
    assert ptv2(["train", str(config), "--offline", "--output", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert "srl/conll2012 needs to know where the data is" in shown
    assert "data: FOLDER" in shown
    assert not (tmp_path / "out").exists()
