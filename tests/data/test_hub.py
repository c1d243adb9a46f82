"""The hub through a cache folder built here in the hub's own layout; nothing is fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.data.source import HubSource, open_source
from ptv2_cli.errors import DataError
from ptv2_cli.tasks.catalog import load_task

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def build_cache(home: Path, *splits: str) -> None:
    """HF_HOME with a snapshot of aps/super_glue's parquet conversion of RTE."""
    from datasets import ClassLabel, Dataset, Features, Value

    repo = home / "hub" / "datasets--aps--super_glue"
    reference = repo / "refs" / "refs" / "convert" / "parquet"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    features = Features(
        {
            "premise": Value("string"),
            "hypothesis": Value("string"),
            "idx": Value("int32"),
            "label": ClassLabel(names=["entailment", "not_entailment"]),
        }
    )
    for number, split in enumerate(splits):
        rows = {
            "premise": [f"{split} p"],
            "hypothesis": ["h"],
            "idx": [number],
            "label": [-1 if split == "test" else 1],
        }
        blob = repo / "blobs" / f"blob{number}"
        blob.parent.mkdir(exist_ok=True)
        Dataset.from_dict(rows, features=features).to_parquet(str(blob))
        link = repo / "snapshots" / COMMIT / "rte" / split / "0000.parquet"
        link.parent.mkdir(parents=True)
        link.symlink_to(os.path.relpath(blob, link.parent))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def source() -> HubSource:
    found = open_source(load_task("superglue/rte"), None, offline=True)
    assert isinstance(found, HubSource)
    return found


def test_reads_the_snapshot_offline(home: Path) -> None:
    build_cache(home, "train", "validation", "test")
    hub = source()
    assert hub.missing() is None
    task = load_task("superglue/rte")
    rows = task.read(hub, "train").rows
    assert rows == [{"premise": "train p", "hypothesis": "h", "idx": 0, "label": "not_entailment"}]
    assert "label" not in task.read(hub, "test").rows[0]


def test_an_empty_cache_is_missing_with_the_command(home: Path) -> None:
    command = (
        "hf download --repo-type dataset aps/super_glue --revision refs/convert/parquet "
        "--include 'rte/*'"
    )
    assert "is not in the cache" in source().missing()
    assert source().command == command
    with pytest.raises(DataError) as caught:
        source().files("train")
    assert "offline" in str(caught.value)
    assert command in str(caught.value)
    assert "task.data" in str(caught.value)


def test_a_lost_split_is_missing(home: Path) -> None:
    build_cache(home, "train")
    assert "without validation" in source().missing()


def test_a_lost_blob_is_missing(home: Path) -> None:
    build_cache(home, "train", "validation")
    (home / "hub/datasets--aps--super_glue/blobs/blob0").unlink()
    assert "without train" in source().missing()


def test_another_folder_of_the_same_repository_is_missing(home: Path) -> None:
    build_cache(home, "train", "validation")
    hub = HubSource("aps/super_glue", "refs/convert/parquet", "cb", offline=True)
    assert "(cb, revision" in hub.missing()
    assert "'cb/*'" in hub.command


def test_no_network_is_a_message(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*args: Any, **kwargs: Any) -> str:
        raise OSError("no route to host\nlong story")

    hub = HubSource("aps/super_glue", "refs/convert/parquet", "rte")
    hub.offline = False
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(DataError) as caught:
        hub.files("train")
    assert "cannot be downloaded: no route to host" in str(caught.value)
    assert "long story" not in str(caught.value)


def test_online_asks_for_the_folder_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    build_cache(home, "train", "validation")
    asked: dict[str, Any] = {}

    def download(repo: str, **kwargs: Any) -> str:
        asked.update(kwargs, repo=repo)
        return str(home / "hub/datasets--aps--super_glue/snapshots" / COMMIT)

    hub = HubSource("aps/super_glue", "refs/convert/parquet", "rte")
    hub.offline = False
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert len(hub.files("train")) == 1
    assert len(hub.files("validation")) == 1
    assert asked == {
        "repo": "aps/super_glue",
        "repo_type": "dataset",
        "revision": "refs/convert/parquet",
        "allow_patterns": "rte/*.parquet",
    }


def test_hf_home_and_hf_hub_offline_are_followed(tmp_path: Path) -> None:
    build_cache(tmp_path, "train", "validation")
    code = (
        "import json\n"
        "from ptv2_cli.tasks.catalog import load_task\n"
        "from ptv2_cli.data.source import open_source\n"
        "task = load_task('superglue/rte')\n"
        "source = open_source(task, None)\n"
        "print(json.dumps([source.offline, [*task.read(source, 'validation').rows]]))"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    offline, rows = json.loads(done.stdout)
    assert offline
    assert rows[0]["premise"] == "validation p"
