"""Official files and official scores, where PTV2_DATA names the folder that holds them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.data.source import FolderSource
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.scoring.squad import best_over, best_threshold
from ptv2_cli.tasks.catalog import load_task

DATA = Path(os.environ.get("PTV2_DATA", ""))
pytestmark = pytest.mark.skipif(
    not os.environ.get("PTV2_DATA") or not DATA.is_dir(),
    reason="PTV2_DATA names no folder with the real data sets",
)


@pytest.mark.parametrize(
    ("name", "folder", "rows"),
    [
        ("superglue/rte", "superglue/RTE", (2490, 277, None)),
        ("superglue/cb", "superglue/CB", (250, 56, None)),
        ("superglue/boolq", "superglue/BoolQ", (2470, 800, None)),
        ("ner/conll2003", "conll2003", (14041, 3250, 3453)),
        ("qa/squad", "squad", (894, 296, None)),
        ("qa/squad_v2", "squad_v2", (1107, 367, None)),
    ],
)
def test_official_files_are_read(name: str, folder: str, rows: tuple[int | None, ...]) -> None:
    task, source = load_task(name), FolderSource(DATA / folder)
    for split, count in zip(("train", "validation", "test"), rows, strict=True):
        if count is None:
            assert source.files(split) == ()
        else:
            found = task.read(source, split).rows
            assert len(found) == count
            assert all(task.gold(row) is not None for row in found)


@pytest.mark.parametrize(
    ("name", "folder", "version"),
    [("qa/squad", "squad", "1.1"), ("qa/squad_v2", "squad_v2", "2.0")],
)
def test_scores_of_the_official_script(name: str, folder: str, version: str) -> None:
    official = DATA / "squad_official"
    expected = json.loads((official / f"scores-{version}.json").read_text())
    answers = json.loads((official / f"predictions-{version}.json").read_text())
    task = load_task(name)
    rows = task.read(FolderSource(DATA / folder), "validation").rows
    scores = task.score(rows, [{"answer": answers[row["id"]]} for row in rows])
    assert scores.metrics["exact_match"] * 100 == pytest.approx(expected["exact"], abs=1e-9)
    assert scores.metrics["f1"] * 100 == pytest.approx(expected["f1"], abs=1e-9)
    for part, prefix in (("has_answer", "HasAns"), ("no_answer", "NoAns")):
        if f"{prefix}_f1" in expected:
            found = scores.detail[part]
            assert found["rows"] == expected[f"{prefix}_total"]
            assert found["f1"] * 100 == pytest.approx(expected[f"{prefix}_f1"], abs=1e-9)


def test_best_threshold_of_the_official_script() -> None:
    official = DATA / "squad_official"
    expected = json.loads((official / "scores-2.0.json").read_text())
    answers = json.loads((official / "predictions-2.0.json").read_text())
    chance = json.loads((official / "no-answer-probability-2.0.json").read_text())
    task = load_task("qa/squad_v2")
    rows = task.read(FolderSource(DATA / "squad_v2"), "validation").rows
    golds = [task.gold(row) for row in rows]
    pairs = [best_over(answers[row["id"]], gold) for row, gold in zip(rows, golds, strict=True)]
    for index, name in ((0, "exact"), (1, "f1")):
        threshold, best = best_threshold(
            [chance[row["id"]] for row in rows],
            [pair[index] for pair in pairs],
            [float(not gold) for gold in golds],
        )
        assert best * 100 == pytest.approx(expected[f"best_{name}"], abs=1e-9)
        assert threshold == pytest.approx(expected[f"best_{name}_thresh"])


def test_every_gold_entity_is_counted_and_windows_are_quick(wordpiece: Any) -> None:
    task = load_task("ner/conll2003")
    rows = task.read(FolderSource(DATA / "conll2003"), "validation").rows
    begun = time.perf_counter()
    features = task.encode(rows, Encoder(wordpiece, 32))
    assert time.perf_counter() - begun < 5
    assert len(features) > len(rows)
    read = sum(word is not None for feature in features for word in feature.words or [])
    assert read == sum(len(row["tokens"]) for row in rows)
    lines = task.majority(rows, rows) or []
    text = (DATA / "conll2003" / "valid.txt").read_text()
    assert task.score(rows, lines).detail["entities"] == text.count(" B-")
