"""A user's columns may have any name: also those of a row's answer, prediction and task."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2, Refused, only_run
from made import in_schema_1

from ptv2_cli.runs.directory import RunDirectory

Rows = list[dict[str, Any]]
OURS = {
    name: f"my {name}"
    for name in (
        *("label", "labels", "tags", "tokens", "entities", "answer", "answers", "start", "nbest"),
        *("gold", "prediction", "row", "task", "probability", "probabilities", "null_score"),
    )
}
"""Columns that mean nothing to the task, named as parts of a line of predictions are."""
WORDS = ("ann likes the cat", "bob ran in rome", "the dog sat", "carl sees a red box")


def classification(at: int) -> dict[str, Any]:
    return {**OURS, "label": f"{WORDS[at % 4]} {at}", "sentiment": " no" if at % 2 else "yes"}


def regression(at: int) -> dict[str, Any]:
    return {**OURS, "label": f"{WORDS[at % 4]} {at}", "gold": "who", "score": at % 3 / 2}


def choice(at: int) -> dict[str, Any]:
    texts = {"label": f"who {at} ?", "answers": ["ann", "bob"]}
    return {**OURS, **texts, "choice": "x", "right": ["ann", "bob"][at % 2]}


def choice_columns(at: int) -> dict[str, Any]:
    texts = {"text": f"who {at} ?", "label": "ann", "answer": "bob"}
    return {**OURS, **texts, "right": ["label", "answer"][at % 2]}


def tagging(at: int) -> dict[str, Any]:
    words = WORDS[at % 4].split()
    return {**OURS, "words": words, "ner": ["B-PER" if at % 2 else "O", *["O"] * (len(words) - 1)]}


def question(at: int) -> dict[str, Any]:
    answers = [{"text": "rome", "answer_start": 0, "kind": "city"}]
    return {**OURS, "question": f"where {at} ?", "context": "rome is old .", "answers": answers}


KINDS: dict[str, tuple[str, dict[str, Any], Any, dict[str, Any]]] = {
    "classification": (
        "text/classification",
        {"text": ["label"], "label": "sentiment"},
        classification,
        {"gold": ["yes", "no"], "prediction": {"label", "probabilities"}},
    ),
    "regression": (
        "text/regression",
        {"text": ["label", "gold"], "label": "score"},
        regression,
        {"gold": [0.0, 0.5, 1.0], "prediction": float},
    ),
    "choice": (
        "text/choice",
        {"text": ["label"], "choices": ["answers"], "label": "right"},
        choice,
        {"gold": [0, 1], "prediction": {"label", "probabilities"}},
    ),
    "choice_columns": (
        "text/choice",
        {"choices": ["label", "answer"], "label": "right"},
        choice_columns,
        {"gold": [0, 1], "prediction": {"label", "probabilities"}},
    ),
    "tagging": (
        "text/tagging",
        {"token_column": "words", "tag_column": "ner"},
        tagging,
        {"gold": [["O"] * 4, ["B-PER", "O", "O", "O"]], "prediction": {"tags", "entities"}},
    ),
    "qa": (
        "text/qa",
        {},
        question,
        {"gold": [["rome"]], "prediction": {"answer", "start", "probability", "nbest"}},
    ),
}


def write(path: str, rows: Rows) -> Path:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path(path)


def read(text: str) -> Rows:
    return [json.loads(line) for line in text.splitlines()]


def lines_of(run: Path) -> Rows:
    return read((run / "predictions" / "validation.jsonl").read_text())


@pytest.fixture
def train(material: Material, ptv2: Ptv2) -> Any:
    """`train(task, rows, options, seed)`: the folder of the run."""

    def trained(section: dict[str, Any], seed: int = 11) -> Path:
        output = Path(f"runs-{seed}")
        settings = {"steps": 2, "batch_size": 4, "lr": 0.05, "seed": seed}
        task = section if "tasks" not in section else None
        config = material.write(
            Path("config.yaml"), task=task, tasks=section.get("tasks"), train=settings
        )
        result = ptv2("train", config, "--output", output)
        assert result.code == 0, result.err
        return only_run(output)

    return trained


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_clashes_and_nothing_is_lost(kind: str, train: Any, ptv2: Ptv2) -> None:
    name, options, make, wanted = KINDS[kind]
    write("train.jsonl", [make(at) for at in range(8)])
    rows = [make(at) for at in range(6)]
    dev = write("dev.jsonl", rows)
    section = {"name": name, "train": "train.jsonl", "validation": "dev.jsonl", "max_len": 24}
    runs = [train({**section, **options}, seed) for seed in (11, 12)]
    lines = lines_of(runs[0])
    assert [line["row"] for line in lines] == rows
    for line in lines:
        assert line.keys() == {"row", "prediction", "gold"}
        assert any(line["gold"][: len(gold)] == gold[: len(line["gold"])]
                   if isinstance(gold, list) else line["gold"] == gold
                   for gold in wanted["gold"])  # fmt: skip
        keys = wanted["prediction"]
        assert isinstance(line["prediction"], float) if keys is float else True
        assert keys is float or line["prediction"].keys() == keys
    told = [{key: line[key] for key in ("row", "prediction")} for line in lines]

    assert read(ptv2("predict", dev, "--run", runs[0]).out) == told
    assert ptv2("eval", runs[0]).code == 0
    again = ptv2("eval", runs[0], "--data", dev)
    assert again.code == 0, again.err
    assert RunDirectory(runs[0]).read_metrics()["predictions_schema"] == 2
    shown = ptv2("errors", runs[0], "--format", "jsonl")
    assert shown.code == 0, shown.err
    assert all(line["row"] in rows for line in read(shown.out))
    assert ptv2("errors", runs[0]).code == 0
    compared = json.loads(ptv2("compare", *runs, "--json", "--show", 9).out)
    assert compared["rows"] == 6
    for row in compared["shown"]:
        assert row["row"].items() <= rows[row["number"] - 1].items()
        assert OURS["nbest"] == row["row"]["nbest"]
    assert ptv2("report", *(run.parent for run in runs)).code == 0


def test_columns_of_a_table(train: Any, ptv2: Ptv2, refused: Refused) -> None:
    name, options, make, _ = KINDS["classification"]
    rows = [make(at) for at in range(8)]
    write("train.jsonl", rows)
    section = {"name": name, "train": "train.jsonl", "validation": "train.jsonl", "max_len": 24}
    run = train({**section, **options})
    assert ptv2("predict", "train.jsonl", "--run", run, "--output", "o.tsv").code == 0
    with Path("o.tsv").open(newline="") as file:
        found = list(csv.DictReader(file, delimiter="\t"))
    assert list(found[0]) == [*rows[0], "prediction.label", "prediction.probabilities"]
    assert [{key: row[key] for key in rows[0]} for row in found] == rows
    assert [row["prediction.label"] for row in found] == [
        line["prediction"]["label"] for line in lines_of(run)
    ]
    # A table of predictions as input: its columns of predictions are the user's own now.
    words = ("predict", "o.tsv", "--run", run, "--output")
    refused(*words, "p.csv", says=["a column 'prediction.label'", "--output p.jsonl"])
    assert ptv2(*words, "p.jsonl").code == 0
    line = read(Path("p.jsonl").read_text())[0]
    assert line["row"]["prediction.label"] == line["prediction"]["label"]


def test_several_tasks(train: Any, ptv2: Ptv2) -> None:
    """A text column called `task`, which is what rows of several tasks call their task."""
    first = [{"task": WORDS[at % 4], "gold": "x", "label": "ab"[at % 2]} for at in range(8)]
    second = [{**OURS, "label": WORDS[at % 4], "kind": "cd"[at % 2]} for at in range(8)]
    write("first.jsonl", first)
    write("second.jsonl", second)
    sections = [
        {"name": "text/classification", "train": f"{name}.jsonl", "validation": f"{name}.jsonl",
         **options}
        for name, options in (
            ("first", {"text": "task"}), ("second", {"text": "label", "label": "kind"})
        )
    ]  # fmt: skip
    runs = [train({"tasks": sections}, seed) for seed in (11, 12)]
    lines = lines_of(runs[0])
    assert lines[0].keys() == {"task", "row", "prediction", "gold"}
    assert [line["row"] for line in lines] == [*first, *second]
    names = ["classification-1"] * 8 + ["classification-2"] * 8
    assert [line["task"] for line in lines] == names
    assert ["label" in line["prediction"] for line in lines] == [True] * 16
    assert ptv2("eval", runs[0]).code == 0
    assert ptv2("errors", runs[0]).code == 0
    assert json.loads(ptv2("compare", *runs, "--json").out)["rows"] == 16
    assert ptv2("report", *(run.parent for run in runs)).code == 0
    rows = [{**second[0], "task": "classification-2"}]
    (line,) = read(ptv2("predict", write("new.jsonl", rows), "--run", runs[0]).out)
    assert (line["row"], line["prediction"]["label"]) == (rows[0], lines[8]["prediction"]["label"])


# Runs of earlier versions


NOTE = "predictions of schema 1 (one flat object per row) were read"


@pytest.mark.parametrize("kind", ["rte", "ner", "squad", "several"])
def test_runs_of_an_earlier_version(kind: str, material: Material, train: Any, ptv2: Ptv2) -> None:
    name = {"rte": "superglue/rte", "ner": "ner/conll2003", "squad": "qa/squad"}.get(kind)
    section: dict[str, Any] = {
        "name": name,
        "data": str(getattr(material, kind, "")),
        "max_len": 24,
    }
    if kind == "several":
        ner = {"name": "ner/conll2003", "data": str(material.ner)}
        section = {"tasks": [ner, {"name": "text/tagging", "data": str(material.ner)}]}
    old, new = (train(section, seed) for seed in (11, 12))
    words = ("compare", old, new, "--json", "--show", 99, "--split", "validation")
    wanted = ptv2(*words)
    errors = ptv2("errors", old, "--format", "jsonl")
    report = ptv2("report", old.parent, new.parent)
    in_schema_1(old)
    assert "row" not in lines_of(old)[0]

    found = ptv2(*words)
    assert found.code == 0, found.err
    assert NOTE in " ".join(found.err.split())
    assert old.name in "".join(found.err.split())
    one, other = json.loads(found.out), json.loads(wanted.out)
    for row, twin in zip(one.pop("shown"), other.pop("shown"), strict=True):
        assert {**row, "row": twin["row"]} == twin
    assert one == other
    again = ptv2("errors", old, "--format", "jsonl")
    assert NOTE in " ".join(again.err.split())
    for row, twin in zip(read(again.out), read(errors.out), strict=True):
        assert {**row, "row": twin["row"]} == twin
        assert row["row"].items() <= twin["row"].items()
    told = ptv2("report", old.parent, new.parent)
    assert NOTE in " ".join(told.out.split() + told.err.split())
    table = [line for line in report.out.splitlines() if line.startswith(("ptuning", "method"))]
    assert [line for line in told.out.splitlines() if line in table] == table
    assert ptv2("eval", old).code == 0


def test_other_rows_of_an_earlier_version(train: Any, material: Material, refused: Refused) -> None:
    section = {"name": "superglue/rte", "data": str(material.rte), "max_len": 24}
    old, new = (train(section, seed) for seed in (11, 12))
    in_schema_1(old)
    path = old / "predictions" / "validation.jsonl"
    lines = lines_of(old)
    lines[2]["premise"] = "another text"
    write(str(path), lines)
    refused("compare", old, new, says=["hold different rows, from line 3 on"])
    lines[2]["gold"] = {"entailment": "not_entailment"}.get(lines[2]["gold"], "entailment")
    write(str(path), lines)
    refused("compare", old, new, says=["hold different rows, from line 3 on"])


def test_predictions_of_a_later_version(finished: Path, refused: Refused) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    (finished / "metrics.json").write_text(json.dumps({**metrics, "predictions_schema": 3}))
    refused("errors", finished, says=["has predictions of schema 3, this ptv2 reads 1 to 2"])


def test_a_text_column_that_is_the_label_too(material: Material, refused: Refused) -> None:
    write("train.jsonl", [classification(at) for at in range(4)])
    section = {"name": "text/classification", "train": "train.jsonl", "text": "label"}
    material.write(Path("config.yaml"), task=section)
    refused("train", says=["the gold answer's column 'label' is a column of task.text too"])
