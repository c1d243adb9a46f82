from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.data.source import (
    FileSource,
    FolderSource,
    HubSource,
    open_source,
    split_files,
    split_of,
)
from ptv2_cli.errors import DataError
from ptv2_cli.tasks.catalog import load_task


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("val.jsonl", "validation"),
        ("valid.txt", "validation"),
        ("validation.parquet", "validation"),
        ("dev.json", "validation"),
        ("eng.testa", "validation"),
        ("eng.testb", "test"),
        ("eng.train", "train"),
        ("test", "test"),
        ("train-v1.1.json", "train"),
        ("dev-v2.0.json", "validation"),
        ("train-00000-of-00002.parquet", "train"),
        ("validation-00000-of-00001.parquet", "validation"),
        ("TRAIN.TXT", "train"),
        ("squad-train.json", "train"),
        ("train-set", "train"),
        ("conll05.devel.txt", "validation"),
        ("test.wsj", "test"),
        ("test_brown.txt", "test"),
        ("conll05.test.brown.txt", "test"),
        ("train.english.v4_gold_conll", "train"),
        ("wsj.txt", None),
        ("README.md", None),
        ("train.py", None),
        ("train.jsonl.bak", None),
        ("trainer.jsonl", None),
        ("notes.txt", None),
    ],
)
def test_split_by_name(name: str, split: str | None) -> None:
    assert split_of(Path(name)) == split


def test_two_files_for_one_split_name_both(corpus: Any) -> None:
    corpus.put("dev.jsonl", "")
    corpus.put("val.jsonl", "")
    with pytest.raises(DataError) as caught:
        corpus.source.files("validation")
    assert "dev.jsonl and val.jsonl both claim to be the validation data" in str(caught.value)
    assert corpus.source.files("train") == ()


def test_shards_in_a_subfolder(corpus: Any) -> None:
    corpus.put("train/0000.parquet", "")
    corpus.put("train/0001.parquet", "")
    corpus.put("train/index.duckdb", "")
    assert [path.name for path in corpus.source.files("train")] == [
        "0000.parquet",
        "0001.parquet",
    ]


def test_hidden_files_are_no_data(corpus: Any) -> None:
    corpus.put(".train.jsonl", "")
    assert corpus.source.files("train") == ()


def test_missing_folder_names_folder_split_and_names(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        FolderSource(tmp_path / "nowhere").files("train")
    text = str(caught.value)
    assert f"{tmp_path / 'nowhere'}: the data folder does not exist" in text
    assert "train.*" in text


def test_a_file_is_no_folder_but_can_be_any_split(corpus: Any) -> None:
    path = corpus.put("mine.jsonl", "")
    with pytest.raises(DataError, match="is a file"):
        FolderSource(path).files("train")
    assert FileSource(path).files("test") == (path,)
    assert FileSource(path.with_name("other")).files("test") == ()


def test_folder_wins_over_the_hub(tmp_path: Path) -> None:
    task = load_task("superglue/cb")
    assert open_source(task, tmp_path) == FolderSource(tmp_path)
    hub = open_source(task, None, offline=True)
    assert isinstance(hub, HubSource)
    assert (hub.repo, hub.folder, hub.offline) == ("aps/super_glue", "cb", True)


def test_test_sets_of_two_corpora_are_one_split(tmp_path: Path) -> None:
    for name in ("test.wsj", "test.brown"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in split_files(tmp_path, "test")] == ["test.brown", "test.wsj"]
    (tmp_path / "test-wsj.txt").write_text("x")
    with pytest.raises(DataError, match="both claim to be the test data"):
        split_files(tmp_path, "test")
