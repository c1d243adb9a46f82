"""`train.class_weights`: what it takes, what it refuses, and that rare labels gain by it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from sklearn.utils.class_weight import compute_class_weight

from ptv2_cli.errors import ConfigError
from ptv2_cli.runs.rescore import open_for_rescoring
from ptv2_cli.tasks.catalog import load_task
from ptv2_cli.tasks.class_weights import class_weights

FolderOf = Callable[[str], Path]


def write_rare(folder: Path) -> Path:
    """Texts of which one in eight is spam; a word tells them apart three times in four."""
    source = random.Random(8)
    folder.mkdir(parents=True)
    for name, count in (("train", 160), ("validation", 80)):
        rows = ["text,label\n"]
        for at in range(count):
            rare = at % 8 == 0
            told = source.random() < 0.75
            word = "ann" if rare == told else "bob"
            rest = " ".join(source.choices(tiny.WORDS[7:20], k=4))
            rows.append(f"{word} {rest},{'spam' if rare else 'ham'}\n")
        (folder / f"{name}.csv").write_text("".join(rows))
    return folder


@pytest.fixture
def config(folder_of: FolderOf, tmp_path: Path) -> Path:
    folder = write_rare(tmp_path / "rare")
    return tiny.write_config(
        tmp_path / "x.yaml",
        folder_of("bert"),
        folder,
        task={"name": "text/classification", "data": str(folder)},
        train={"lr": 0.01, "epochs": 6, "batch_size": 16, "seed": 11},
    )


def test_the_recall_of_a_rare_class_rises(config: Path, tmp_path: Path) -> None:
    recalls = {}
    for setting in ("null", "balanced"):
        session, metrics = tiny.trained(
            config,
            tmp_path / "runs",
            f"train.class_weights={setting}",
            "selection.metric=balanced_accuracy",
        )
        classes = metrics["detail"]["validation"]["classes"]
        recalls[setting] = classes["spam"]["recall"]
        found = metrics["class_weights"]
    assert recalls["null"] < 0.3
    assert recalls["balanced"] > recalls["null"] + 0.3
    # 160 rows, 20 of them spam.
    assert found == pytest.approx({"ham": 160 / (2 * 140), "spam": 160 / (2 * 20)})
    directory = session.resolved_run.directory
    again = open_for_rescoring(directory, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}
    written = tiny.prepared(directory.config, tmp_path / "runs")
    assert written.fingerprint == session.resolved_run.fingerprint


def test_weights_are_part_of_what_a_run_is(config: Path, tmp_path: Path) -> None:
    marks = [
        tiny.prepared(config, tmp_path / "runs", sets).fingerprint
        for sets in (
            [],
            ["train.class_weights=null"],
            ["train.class_weights=balanced"],
            ["train.class_weights={spam: 5}"],
            ["train.class_weights.spam=5.0"],
        )
    ]
    assert marks[0] == marks[1]
    assert marks[3] == marks[4]
    assert len(set(marks)) == 3


@pytest.mark.parametrize("kind", ["rows", "words"])
def test_balanced_is_scikit_learn_s(kind: str) -> None:
    source = random.Random(1)
    if kind == "rows":
        task = load_task("text/classification", {"labels": ["a", "b", "c", "d"]})
        known = source.choices(["a", "b", "c"], [10, 3, 1], k=50)
        rows: list[dict[str, Any]] = [{"text": "x", "label": label} for label in known]
    else:
        task = load_task("text/tagging", {"labels": ["O", "B-X", "I-X"], "scheme": "bio"})
        sentences = [source.choices(["O", "B-X"], [9, 1], k=7) for _ in range(9)]
        rows = [{"tokens": ["x"] * 7, "tags": tags} for tags in sentences]
        known = [tag for tags in sentences for tag in tags]
    present = sorted(set(known), key=task.labels.index)
    expected = compute_class_weight("balanced", classes=np.array(present), y=known).tolist()
    # The last label is in no row of train, and counts 1.
    assert class_weights("balanced", task, rows) == pytest.approx((*expected, 1.0))


def test_labels_that_are_left_out_count_one() -> None:
    task = load_task("superglue/cb")
    assert class_weights({"neutral": 4.0}, task, None) == (1.0, 1.0, 4.0)
    assert class_weights(None, task, []) is None


def test_labels_may_look_like_numbers(folder_of: FolderOf, tmp_path: Path) -> None:
    folder = tmp_path / "numbers"
    folder.mkdir()
    for name in ("train", "validation"):
        lines = [json.dumps({"text": "ann", "label": at % 2}) + "\n" for at in range(6)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    path = tiny.write_config(
        tmp_path / "x.yaml",
        folder_of("bert"),
        folder,
        task={"name": "text/classification", "data": str(folder)},
        train={"class_weights": {0: 1, 1: 2.5}, "epochs": 1, "lr": 0.01},
    )
    _, metrics = tiny.trained(path, tmp_path / "runs")
    assert metrics["class_weights"] == {"0": 1.0, "1": 2.5}


@pytest.mark.parametrize(
    ("setting", "what", "hint"),
    [
        ("{spma: 5}", "'spma' is no label of text/classification", "did you mean 'spam'?"),
        ("{spam: -1}", "gives spam the weight -1", "0 or more"),
        ("{spam: .nan}", "gives spam the weight", "0 or more"),
        ("{spam: true}", "gives spam the weight", "0 or more"),
        ("{spam: 0, ham: 0}", "every label has the weight 0", "above 0"),
        ("balance", "must be the word balanced or weights by label", ""),
        ("{}", "must be the word balanced or weights by label", ""),
    ],
)
def test_what_is_no_weight_is_refused(
    setting: str, what: str, hint: str, config: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny.prepared(config, tmp_path / "runs", [f"train.class_weights={setting}"])
    (problem,) = caught.value.problems
    assert what in problem.what
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["superglue/copa"], "superglue/copa has no class weights: the places of choices"),
        (["superglue/record"], "has no class weights: its answers are entities"),
        (["qa/squad"], "has no class weights: the places of an answer"),
        (["text/regression"], "has no class weights: numbers have no classes"),
        (["superglue/rte", "superglue/cb"], "several tasks in one run"),
    ],
)
def test_tasks_without_classes_are_refused(
    names: list[str], what: str, folder_of: FolderOf, tmp_path: Path
) -> None:
    sections = [{"name": name, "data": str(tmp_path)} for name in names]
    several = {"task": None, "tasks": sections}
    content = several if len(names) > 1 else {"task": sections[0]}
    train = {"class_weights": "balanced"}
    path = tiny.write_config(
        tmp_path / "x.yaml", folder_of("bert"), tmp_path, train=train, **content
    )
    with pytest.raises(ConfigError) as caught:
        tiny.prepared(path, tmp_path / "runs")
    (problem,) = caught.value.problems
    assert what in problem.what
    assert problem.where.startswith(str(path))
