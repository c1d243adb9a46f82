"""SuperGLUE's five further tasks from official files to metrics.json, predictions and compare."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import superglue
import tiny

from ptv2_cli import load
from ptv2_cli.cli.app import run as ptv2
from ptv2_cli.data.rows import Split
from ptv2_cli.data.source import FolderSource
from ptv2_cli.report.compare import compare, open_finished
from ptv2_cli.runs.rows.row_selection import hold_out
from ptv2_cli.tasks.catalog import load_task

METRICS = {
    "copa": ["accuracy"],
    "wic": ["accuracy"],
    "wsc": ["accuracy"],
    "multirc": ["f1_a", "exact_match"],
    "record": ["f1", "exact_match"],
}
ROWS = {"copa": 16, "wic": 16, "wsc": 16, "multirc": 80, "record": 32}


@pytest.fixture(scope="module")
def runs(
    folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """`runs("wic")`: a finished run of a task on its fixture, and its metrics.json."""
    root = tmp_path_factory.mktemp("superglue")
    made: dict[tuple[str, ...], tuple[Path, dict[str, Any]]] = {}

    def get(name: str, *sets: str) -> tuple[Path, dict[str, Any]]:
        if (name, *sets) not in made:
            data = superglue.write(root / name, name)
            section = {"name": f"superglue/{name}", "data": str(data), "max_len": 30}
            train = {"lr": 1e-3, "epochs": 4, "batch_size": 8, "eval_batch_size": 8, "seed": 11}
            config = tiny.write_config(
                root / f"{name}.yaml",
                folder_of("bert"),
                data,
                method="finetune",
                prompt_len=None,
                task=section,
                train=train,
            )
            session, metrics = tiny.trained(config, root / "out", *sets)
            made[(name, *sets)] = session.resolved_run.directory.path, metrics
        return made[(name, *sets)]

    return get


@pytest.mark.parametrize("name", METRICS)
def test_it_is_trained_and_scored(name: str, runs: Any) -> None:
    path, metrics = runs(name)
    assert [*metrics["metrics"]["validation"]] == METRICS[name]
    assert [*metrics["majority_baseline"]] == METRICS[name]
    main = METRICS[name][0]
    assert metrics["selection"]["metric"] == main
    assert metrics["metrics"]["validation"][main] > metrics["majority_baseline"][main]
    assert metrics["standard_error"] is not None
    lines = predictions(path)
    assert len(lines) == metrics["data"]["validation"]["rows"] == ROWS[name]
    assert all("gold" in line for line in lines)


def predictions(path: Path) -> list[dict[str, Any]]:
    text = (path / "predictions" / "validation.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_prediction_lines(runs: Any) -> None:
    multirc = predictions(runs("multirc")[0])[0]
    columns = {"version", "paragraph", "question", "answer", "idx", "label"}
    assert multirc["row"].keys() == columns
    assert multirc["prediction"].keys() == {"label", "probabilities"}
    assert multirc["prediction"]["probabilities"].keys() == {"false", "true"}
    record = predictions(runs("record")[0])[0]
    found = record["prediction"]
    assert found["answer"] == found["nbest"][0]["text"]
    assert record["gold"] == ["ann"]
    assert sorted(item["text"] for item in found["nbest"]) == sorted({*record["row"]["entities"]})
    assert found["probability"] == max(item["probability"] for item in found["nbest"])
    assert predictions(runs("wsc")[0])[0]["gold"] == "true"
    assert runs("wic")[1]["config"]["task"]["template"] == "sentences"


@pytest.mark.parametrize("name", METRICS)
def test_official_rows_without_labels_are_predicted(name: str, runs: Any, tmp_path: Path) -> None:
    path, _ = runs(name)
    rows = superglue.MAKERS[name](3, random.Random(4))
    new = superglue.put(tmp_path / "new.jsonl", [superglue.unlabelled(name, row) for row in rows])
    out = tmp_path / "out.jsonl"
    assert ptv2(["predict", str(new), "--run", str(path), "--output", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    task = load_task(f"superglue/{name}")
    kept = task.read(FolderSource(superglue.put(tmp_path / "train.jsonl", rows).parent), "train")
    assert len(lines) == len(kept.rows)
    key = "answer" if name == "record" else "label"
    # From Python, rows as `predict` wrote them: one for each line, where official files nest them.
    again = load(path, device="cpu").predict([line["row"] for line in lines])
    assert [line["prediction"][key] for line in again] == [
        line["prediction"][key] for line in lines
    ]


def test_a_bad_official_row_is_set_apart(runs: Any, tmp_path: Path) -> None:
    good = superglue.unlabelled("record", superglue.record(1, random.Random(1))[0])
    bad = {**good, "qas": [{"query": "no gap", "idx": 0}]}
    new = superglue.put(tmp_path / "new.jsonl", [good, bad, good])
    out = tmp_path / "out.jsonl"
    command = ["predict", str(new), "--run", str(runs("record")[0]), "--output", str(out)]
    assert ptv2(command) == 2
    assert ptv2([*command, "--skip-bad"]) == 0
    assert len(out.read_text().splitlines()) == 4
    (line,) = (tmp_path / "out.jsonl.bad.jsonl").read_text().splitlines()
    assert json.loads(line)["line"] == 2


def test_compare_tests_f1_by_question_and_accuracy_by_row(
    runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("train.epochs=1", "train.lr=1e-6")
    for name, test in (("multirc", "bootstrap"), ("record", "bootstrap"), ("wsc", "mcnemar")):
        paths = [runs(name, *sets)[0] for sets in ((), short)]
        found = compare(*([open_finished(path)] for path in paths))
        assert found.tests[METRICS[name][0]].name == test
        assert (found.labels is None) == (test == "bootstrap")
        scores = {metric: score.a for metric, score in found.scores.items()}
        assert scores == pytest.approx(runs(name)[1]["metrics"]["validation"])
        assert found.disagreements
        assert all(
            item.better == "a" for item in found.disagreements if item.a in ("ann", item.gold)
        )
        capsys.readouterr()
        assert ptv2(["compare", *map(str, paths), "--show", "1"]) == 0
    assert "McNemar" in capsys.readouterr().out
    row = found.disagreements[0].row
    assert {"text", "span1_text"} <= row.keys()


def test_compare_shows_the_answer_of_multirc(runs: Any) -> None:
    paths = [runs("multirc", *sets)[0] for sets in ((), ("train.epochs=1", "train.lr=1e-6"))]
    found = compare(*([open_finished(path)] for path in paths))
    assert all({"question", "answer"} <= item.row.keys() for item in found.disagreements)


@pytest.mark.parametrize(("name", "key"), [("multirc", "paragraph"), ("record", "passage")])
def test_a_holdout_keeps_passages_whole(name: str, key: str, tmp_path: Path) -> None:
    task = load_task(f"superglue/{name}")
    train = task.read(FolderSource(superglue.write(tmp_path, name)), "train")
    kept, held = hold_out(task, train, 0.2, 11)
    assert not {row[key] for row in kept.rows} & {row[key] for row in held.rows}
    assert 0.1 < len(held.rows) / len(train.rows) < 0.3


def test_a_holdout_of_single_rows_keeps_shares() -> None:
    rows = [{"text": str(at), "label": "true" if at % 4 else "false"} for at in range(80)]
    rows = [{**row, "span1_text": "x", "span2_text": "y"} for row in rows]
    _, held = hold_out(load_task("superglue/wsc"), Split(rows, "x"), 0.25, 1)
    assert sum(row["label"] == "false" for row in held.rows) == 5


def test_check_shows_each_entity(
    folder_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = superglue.write(tmp_path / "data", "record", 4, 2)
    section = {"name": "superglue/record", "data": str(data), "max_len": 30}
    config = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data, task=section)
    assert ptv2(["check", str(config), "--show", "1", "--offline"]) == 0
    shown = capsys.readouterr().out
    assert "entity 1 of 2, " in shown
    assert "entity 2 of 2, " in shown
    assert "gold: ann" in shown
