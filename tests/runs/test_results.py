"""What a run leaves: metrics.json, history, predictions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import tiny

KEYS = {
    "schema_version",
    "fingerprint",
    "status",
    "task",
    "method",
    "backbone",
    "selection",
    "metrics",
    "final",
    "evaluations",
    "majority_baseline",
    "standard_error",
    "detail",
    "parameters",
    "timing",
    "memory",
    "data",
    "seed",
    "config",
    "environment",
    "provenance",
    "warnings",
}


@pytest.fixture(scope="module")
def runs(folder_of, tmp_path_factory):
    """One run of each head kind: session, metrics.json from the file, prediction lines."""
    root = tmp_path_factory.mktemp("runs")
    made = {}
    for kind, name, write in (
        ("sequence", "superglue/rte", tiny.write_rte),
        ("token", "ner/conll2003", tiny.write_ner),
        ("span", "qa/squad", tiny.write_squad),
    ):
        folder = write(root / kind)
        config = tiny.write_config(
            root / f"{kind}.yaml",
            folder_of("bert"),
            folder,
            task={"name": name, "data": str(folder), "max_len": 24},
            train={"lr": 0.03, "epochs": 2, "batch_size": 8, "seed": 11},
        )
        session, returned = tiny.trained(config, root / "out")
        directory = session.resolved_run.directory
        metrics = json.loads(directory.metrics.read_text())
        assert metrics["metrics"] == returned["metrics"]
        lines = directory.predictions("validation").read_text().splitlines()
        made[kind] = session, metrics, [json.loads(line) for line in lines]
    return made


@pytest.mark.parametrize(("kind", "version"), [("sequence", 1), ("token", 1), ("span", 2)])
def test_metrics_json_keeps_its_contract(kind, version, runs) -> None:
    session, metrics, _ = runs[kind]
    assert metrics.keys() >= KEYS
    assert metrics["schema_version"] == 1
    assert metrics["predictions_schema"] == 2
    assert metrics["status"] == "finished"
    assert metrics["task"] == {"name": session.resolved.task.name, "version": version}
    assert metrics["method"] == "ptuning_v2"
    assert metrics["backbone"].keys() >= {"name", "revision"}
    chosen = metrics["selection"]
    assert chosen.keys() >= {"split", "metric", "mode", "value", "epoch", "step"}
    scores = metrics["metrics"]["validation"]
    assert chosen["value"] == scores[chosen["metric"]]
    assert scores.keys() == metrics["final"]["validation"].keys()
    assert all(0 <= value <= 1 for value in scores.values())
    assert metrics["evaluations"] == 2
    if kind == "span":
        assert metrics["majority_baseline"] is None
    else:
        assert metrics["majority_baseline"].keys() == scores.keys()
    assert metrics["standard_error"] >= 0
    assert metrics["parameters"].keys() == {
        "prompt",
        "reparam",
        "adapter",
        "head",
        "backbone",
        "trainable",
        "trainable_percent",
        "prompt_percent",
    }
    assert metrics["parameters"]["prompt"] == 2 * 3 * 32 * 3
    assert metrics["timing"].keys() == {
        "train_seconds",
        "examples_per_second",
        "tokens_per_second",
        "eval_seconds",
    }
    assert all(value > 0 for value in metrics["timing"].values())
    assert metrics["memory"]["peak_bytes"] > 50e6
    assert metrics["data"].keys() == {"train", "validation"}
    wanted = {"rows", "sha256", "truncated_rows", "skipped_rows"}
    assert metrics["data"]["train"].keys() == wanted
    assert len(metrics["data"]["train"]["sha256"]) == 64
    assert metrics["seed"] == 11
    assert metrics["config"]["prompt_len"] == 3
    assert metrics["environment"].keys() >= {"ptv2", "torch", "device", "dtype", "threads"}
    assert isinstance(metrics["warnings"], list)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("sequence", {"accuracy"}),
        ("token", {"precision", "recall", "f1"}),
        ("span", {"exact_match", "f1"}),
    ],
)
def test_names_of_the_scores(kind, names, runs) -> None:
    assert runs[kind][1]["metrics"]["validation"].keys() >= names


def test_classes_are_under_detail(runs) -> None:
    detail = runs["sequence"][1]["detail"]["validation"]
    assert detail["classes"].keys() == {"entailment", "not_entailment"}
    assert runs["token"][1]["detail"]["validation"]["types"].keys() >= {"PER", "LOC"}


def test_history_has_a_line_per_evaluation(runs) -> None:
    session, metrics, _ = runs["sequence"]
    lines = session.resolved_run.directory.history.read_text().splitlines()
    history = [json.loads(line) for line in lines]
    assert [line["step"] for line in history] == [3, 6]
    assert [line["epoch"] for line in history] == [1, 2]
    assert history[0].keys() >= {"step", "epoch", "train_loss", "lr", "metrics"}
    _, _, predictions = runs["sequence"]
    wanted = [-math.log(line["prediction"]["probabilities"][line["gold"]]) for line in predictions]
    chosen = next(line for line in history if line["step"] == metrics["selection"]["step"])
    assert chosen["validation_loss"] == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)
    assert max(line["metrics"]["accuracy"] for line in history) == metrics["selection"]["value"]
    assert history[-1]["metrics"] == metrics["final"]["validation"]


def test_sequence_predictions(runs) -> None:
    session, metrics, lines = runs["sequence"]
    rows = session.resolved_run.data.rows("validation")
    assert len(lines) == len(rows) == 12
    right = 0
    for row, line in zip(rows, lines, strict=True):
        assert line.keys() == {"row", "prediction", "gold"}
        assert (line["row"], line["gold"]) == (row, row["label"])
        found = line["prediction"]
        assert found.keys() == {"label", "probabilities"}
        assert sum(found["probabilities"].values()) == pytest.approx(1)
        assert found["label"] == max(found["probabilities"], key=found["probabilities"].get)
        right += found["label"] == line["gold"]
    assert right / 12 == metrics["metrics"]["validation"]["accuracy"]


def test_token_predictions(runs) -> None:
    session, _, lines = runs["token"]
    for row, line in zip(session.resolved_run.data.rows("validation"), lines, strict=True):
        assert (line["row"], line["gold"]) == (row, row["tags"])
        assert len(line["prediction"]["tags"]) == len(row["tokens"])
        for entity in line["prediction"]["entities"]:
            assert entity.keys() == {"type", "start", "end", "text", "probability"}
            assert entity["text"] == " ".join(row["tokens"][entity["start"] : entity["end"]])


def test_span_predictions(runs) -> None:
    session, _, lines = runs["span"]
    for row, line in zip(session.resolved_run.data.rows("validation"), lines, strict=True):
        assert line["row"].keys() >= {"question", "context", "answers"}
        found = line["prediction"]
        assert found.keys() == {"answer", "start", "probability", "nbest"}
        end = found["start"] + len(found["answer"])
        assert row["context"][found["start"] : end] == found["answer"]
        assert line["gold"] == ["dora"]


def test_truncated_rows_are_counted_and_warned_about(folder_of, tmp_path) -> None:
    config = tiny.write_config(
        tmp_path / "x.yaml", folder_of("bert"), tiny.write_rte(tmp_path / "rte")
    )
    session, metrics = tiny.trained(config, tmp_path / "runs", "task.max_len=10", "train.epochs=1")
    lengths = [
        len(row["premise"].split()) + 2 + 3 for row in session.resolved_run.data.rows("train")
    ]
    cut = sum(length > 10 for length in lengths)
    assert 2 <= cut < 24
    assert metrics["data"]["train"]["truncated_rows"] == cut
    assert any(text.startswith(f"{cut} of 24 train rows") for text in metrics["warnings"])


def test_collapse_is_warned_about(folder_of, tmp_path) -> None:
    folder = tiny.write_rte(tmp_path / "rte")
    train = folder / "train.jsonl"
    first, second, *others = train.read_text().splitlines()
    lines = [first, second, *(line.replace("not_entail", "entail") for line in others)]
    train.write_text("\n".join(lines))
    config = tiny.write_config(tmp_path / "x.yaml", folder_of("bert"), folder)
    _, metrics = tiny.trained(config, tmp_path / "runs")
    stuck = [text for text in metrics["warnings"] if "stuck on one class" in text]
    assert len(stuck) == 1
    assert "every prediction is 'entailment'" in stuck[0]
    assert metrics["majority_baseline"] == {"accuracy": 0.5}


def test_nothing_of_a_run_is_left_half_written(runs) -> None:
    for session, _, _ in runs.values():
        path: Path = session.resolved_run.directory.path
        names = {file.name for file in path.rglob("*") if file.is_file()}
        assert not [name for name in names if name.startswith(".") or name.endswith(".tmp")]
        assert names >= {"config.yaml", "metrics.json", "history.jsonl", "validation.jsonl"}
