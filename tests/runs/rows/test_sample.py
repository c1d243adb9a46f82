"""`task.limit` with a sample: which rows, from which seed, and where it cannot be."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import superglue
import tiny

from ptv2_cli.cli.app import run as ptv2
from ptv2_cli.config.schema import LimitSection
from ptv2_cli.data.rows import Row
from ptv2_cli.data.source import FolderSource
from ptv2_cli.errors import ConfigError
from ptv2_cli.runs.rows.row_selection import read_limited, shares
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_task

CB = load_task("superglue/cb")
LABELS = ["entailment"] * 60 + ["contradiction"] * 30 + ["neutral"] * 10


def cb_rows() -> list[dict[str, Any]]:
    return [
        {"premise": f"p {at}", "hypothesis": "h", "label": label, "idx": at}
        for at, label in enumerate(LABELS)
    ]


def draw(folder: Path, rows: list[dict[str, Any]], seed: int = 11, **limit: Any) -> list[Row]:
    superglue.put(folder / "train.jsonl", rows)
    section = LimitSection.model_validate(limit)
    return read_limited(CB, FolderSource(folder), "train", section, seed).rows


@pytest.mark.parametrize("count", [3, 8, 32, 99])
def test_stratified_keeps_shares_and_every_label(count: int, tmp_path: Path) -> None:
    rows = draw(tmp_path, cb_rows(), train=count, sample="stratified")
    assert len(rows) == count
    found = Counter(row["label"] for row in rows)
    assert len(found) == 3
    for label, size in Counter(LABELS).items():
        assert abs(found[label] - count * size / 100) < 1 or found[label] == 1


def test_rows_stand_in_the_order_of_the_file(tmp_path: Path) -> None:
    for how in ("random", "stratified"):
        places = [row["idx"] for row in draw(tmp_path, cb_rows(), train=20, sample=how)]
        assert places == sorted(places)
        assert places != list(range(20))
    assert [row["idx"] for row in draw(tmp_path, cb_rows(), train=20)] == list(range(20))


def test_equal_seeds_take_equal_rows_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    rows = cb_rows()
    mixed = random.Random(3).sample(rows, len(rows))
    for how in ("random", "stratified"):
        taken = [
            {row["idx"] for row in draw(tmp_path, found, train=20, sample=how)}
            for found in (rows, mixed)
        ]
        assert taken[0] == taken[1]
        other = {row["idx"] for row in draw(tmp_path, rows, seed=12, train=20, sample=how)}
        assert other != taken[0]
        assert {row["idx"] for row in _with_seed(tmp_path, rows, how)} == taken[0]


def _with_seed(folder: Path, rows: list[dict[str, Any]], how: str) -> list[Row]:
    """Seed 12 for the run, 11 for the sample."""
    superglue.put(folder / "train.jsonl", rows)
    section = LimitSection.model_validate({"train": 20, "sample": how, "seed": 11})
    return read_limited(CB, FolderSource(folder), "train", section, 12).rows


def test_a_larger_random_sample_holds_the_smaller(tmp_path: Path) -> None:
    small, large = (
        {row["idx"] for row in draw(tmp_path, cb_rows(), train=count, sample="random")}
        for count in (10, 40)
    )
    assert small < large


def test_more_than_there_is_takes_all(tmp_path: Path) -> None:
    for how in ("random", "stratified"):
        assert len(draw(tmp_path, cb_rows(), train=500, sample=how)) == 100


def test_questions_are_taken_whole(tmp_path: Path) -> None:
    task: Task = load_task("superglue/multirc")
    source = FolderSource(superglue.write(tmp_path, "multirc"))
    whole = Counter(task.unit(row) for row in task.read(source, "train").rows)
    section = LimitSection.model_validate({"train": 7, "sample": "random"})
    found = Counter(task.unit(row) for row in read_limited(task, source, "train", section, 1).rows)
    assert len(found) == 7
    assert all(whole[unit] == size for unit, size in found.items())


def test_shares_add_up() -> None:
    assert shares({"a": 90, "b": 9, "c": 1}, 10) == {"a": 8, "b": 1, "c": 1}
    assert shares({"a": 5, "b": 5, "c": 5}, 2) == {"a": 1, "b": 1, "c": 0}
    assert shares({"a": 3}, 2) == {"a": 2}


@pytest.fixture
def config(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    data = tiny.write_rte(tmp_path / "data", 40, 12)
    return tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data)


def test_a_run_trains_on_the_sample(config: Path, tmp_path: Path) -> None:
    sets = ["task.limit={train: 8, sample: stratified}", "train.epochs=1"]
    session, metrics = tiny.trained(config, tmp_path / "out", *sets)
    rows = session.resolved_run.data.rows("train")
    assert Counter(row["label"] for row in rows) == {"entailment": 4, "not_entailment": 4}
    assert metrics["data"]["train"]["rows"] == 8
    assert metrics["data"]["validation"]["rows"] == 12
    assert metrics["config"]["task"]["limit"] == {"train": 8, "validation": None, "test": None,
                                                  "sample": "stratified", "seed": None}  # fmt: skip
    assert ptv2(["eval", str(session.resolved_run.directory.path), "--split", "validation"]) == 0


def test_the_sample_is_part_of_the_fingerprint(config: Path, tmp_path: Path) -> None:
    plain = tiny.prepared(config, tmp_path, ["task.limit.train=8"])
    named = tiny.prepared(config, tmp_path, ["task.limit={train: 8, sample: first}"])
    assert plain.fingerprint == named.fingerprint
    ways = [
        "task.limit={train: 8, sample: random}",
        "task.limit={train: 8, sample: stratified}",
        "task.limit={train: 8, sample: random, seed: 1}",
    ]
    prints = {tiny.prepared(config, tmp_path, [way]).fingerprint for way in ways}
    assert len(prints | {plain.fingerprint}) == 4


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("{sample: random}", "sample: random without a number of rows"),
        ("{train: 8, seed: 3}", "has a seed, but sample: first draws nothing"),
        ("{train: 8, sample: last}", "sample"),
    ],
)
def test_samples_that_cannot_be(config: Path, tmp_path: Path, limit: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny.prepared(config, tmp_path, [f"task.limit={limit}"])
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["superglue/record", "superglue/multirc", "ner/conll2003"])
def test_no_labels_to_stratify_by(
    name: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    section = {"name": name, "data": str(tmp_path), "max_len": 24,
               "limit": {"train": 4, "sample": "stratified"}}  # fmt: skip
    config = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), tmp_path, task=section)
    with pytest.raises(ConfigError) as caught:
        tiny.prepared(config, tmp_path)
    assert f"{name} has no single label per row to stratify by" in str(caught.value)
    assert "sample: random" in str(caught.value)
