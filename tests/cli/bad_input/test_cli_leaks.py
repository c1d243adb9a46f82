"""Rows of an evaluated split that stand in train: told by `check` and `train`, for every task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import superglue
import tiny
from commandline import Material, Ptv2, only_run
from kinds import KINDS, jsonl, own


def same_files(folder: Path) -> None:
    """Give validation the rows of train."""
    (train,) = (path for path in folder.iterdir() if path.stem.startswith("train"))
    for path in folder.iterdir():
        if path.stem.startswith(("val", "dev")):
            path.write_bytes(train.read_bytes())


@pytest.mark.parametrize("kind", KINDS)
def test_equal_files_are_told_of_every_kind(kind: str, material: Material, ptv2: Ptv2) -> None:
    section = KINDS[kind](Path("data"))
    same_files(Path("data"))
    task = {**section, "data": "data", "max_len": 30}
    material.write(Path("config.yaml"), task=task, report=["validation"])
    result = ptv2("check")
    assert result.code == 0, result.err
    assert "validation rows are in train word for word: the scores show" in result.err
    assert "evaluate on rows that are not in train" in result.err
    assert result.out.endswith("config.yaml: 1 warning, no errors\n")


def test_metrics_json_has_what_train_warns_of(material: Material, ptv2: Ptv2) -> None:
    tiny.write_rte(Path("data"), train=12, validation=12)
    rows = Path("data/train.jsonl").read_text().splitlines()
    fresh = Path("data/val.jsonl").read_text().splitlines()
    Path("data/val.jsonl").write_text("\n".join([*rows[:2], *fresh[2:]]))
    material.write(Path("config.yaml"), task=material.task(data="data"))
    line = "2 of 12 validation rows (16.7%) are in train word for word"
    result = ptv2("train")
    assert result.code == 0, result.err
    assert f"warning: {line}\n" in result.err
    assert line in json.loads((only_run() / "metrics.json").read_text())["warnings"]
    assert ptv2("train", "--dry-run", "--set", "train.seed=5").err.count(line) == 1


def test_case_and_spaces_tell_no_rows_apart(material: Material, ptv2: Ptv2) -> None:
    own(Path("data"))
    rows = [{"text": "  ANN\tSAT\n", "label": "x"}] + [
        {"text": f"{word} ran", "label": "y"} for word in "abc"
    ]
    superglue.put(Path("data/val.jsonl"), rows)
    task = {"name": "text/classification", "data": "data", "max_len": 24}
    material.write(Path("config.yaml"), task=task)
    assert "1 of 4 validation rows (25.0%) are in train word for word" in ptv2("check").err


def test_a_long_text_of_one_column_is_counted_with_its_column(
    material: Material, ptv2: Ptv2
) -> None:
    premise = "the cat sat on the mat and the old dog ran in the big red box {}"

    def rows(first: int, hypothesis: str) -> list[dict[str, Any]]:
        return [
            {"premise": premise.format(at), "hypothesis": f"{hypothesis} {at}",
             "label": ("entailment", "not_entailment")[at % 2]}
            for at in range(first, first + 8)
        ]  # fmt: skip

    jsonl(Path("data"), rows(0, "ann"), [*rows(6, "bob"), rows(0, "ann")[0]])
    material.write(Path("config.yaml"), task=material.task(data="data"))
    line = (
        "1 of 9 validation rows (11.1%) are in train word for word; 2 more (22.2%) share a long "
        "text with a train row: premise 2"
    )
    assert line in ptv2("check").err


def test_an_instruction_that_all_rows_have_is_no_shared_text(
    material: Material, ptv2: Ptv2
) -> None:
    told = "where is the big red cat now and then who sees the old dog there in the box ?"

    def rows(start: int) -> list[dict[str, Any]]:
        return [
            {"order": told, "text": f"ann {at}", "label": "xy"[at % 2]}
            for at in range(start, start + 30)
        ]

    jsonl(Path("data"), rows(0), rows(30))
    task = {"name": "text/classification", "text": ["order", "text"], "data": "data"}
    material.write(Path("config.yaml"), task={**task, "max_len": 36})
    assert "share a long text" not in ptv2("check").err


def test_each_of_several_tasks_is_told_apart(material: Material, ptv2: Ptv2) -> None:
    folders = [tiny.write_ner(Path(name), train=8, validation=4) for name in ("one", "two")]
    same_files(folders[0])
    fresh = "ann B-PER\nlikes O\nred O\n\nbob B-PER\nlikes O\nred O\n"
    (folders[1] / "train.txt").write_text(fresh)
    tasks = [{"name": "ner/conll2003", "data": str(path), "max_len": 24} for path in folders]
    material.write(Path("config.yaml"), task=None, tasks=tasks, report=["validation"])
    err = ptv2("check").err
    assert "8 of 8 validation rows of conll2003-1 are in train word for word" in err
    assert "rows of conll2003-2 stand" not in err


def test_holdouts_are_without_a_warning(material: Material, ptv2: Ptv2) -> None:
    own(Path("data"))
    rows = [json.loads(line) for line in Path("data/train.jsonl").read_text().splitlines()]
    superglue.put(Path("data/train.jsonl"), rows * 3)
    Path("data/val.jsonl").unlink()
    task = {"name": "text/classification", "data": "data", "max_len": 24}
    material.write(Path("config.yaml"), task=task, selection={"split": "holdout", "fraction": 0.25})
    result = ptv2("check", "--set", "report=[holdout]")
    assert "holdout    6 rows" in result.out
    assert "word for word" not in result.err
