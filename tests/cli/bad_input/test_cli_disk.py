"""Folders that cannot be written, disks that are full, and defects."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2, Refused, only_run

from ptv2_cli.runs.recorder import RunRecorder
from ptv2_cli.training import checkpoint

TRAIN = ("train",)
SWEEP = ("sweep", "--seed", "11,12", "--lanes", "2")


def full(path: Path, data: bytes) -> None:
    # As the system says it on a write: without the file's name.
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_output_that_is_a_file(material: Material, refused: Refused, output: str) -> None:
    Path("file").write_text("mine")
    material.write(Path("config.yaml"))
    says = [f"error: {output}/config-ptuning_v2-p3-", "cannot be written: ", "--output DIR"]
    refused("train", "--output", output, says=says)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_without_permission(material: Material, refused: Refused) -> None:
    material.write(Path("config.yaml"))
    Path("locked").mkdir(mode=0o500)
    says = ["locked/config-", "cannot be written: Permission denied", "--output DIR"]
    refused("train", "--output", "locked/runs", says=says)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_output_that_is_read_only(
    material: Material, refused: Refused, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def mkdir(path: Path, *args: Any, **kwargs: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    material.write(Path("config.yaml"))
    monkeypatch.setattr(Path, "mkdir", mkdir)
    says = ["error: runs/config-", f"cannot be written: {os.strerror(code)}", "--output DIR"]
    refused("train", says=says)


@pytest.mark.parametrize(
    "place",
    ["runs.directory.write_atomic", "training.checkpoint.replace_by", "runs.results.write_json"],
)
def test_a_full_disk(
    material: Material, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    material.write(Path("config.yaml"))
    target = "runs.recorder.write_json" if place.endswith("write_json") else place
    with monkeypatch.context() as patch:
        patch.setattr(f"ptv2_cli.{target}", full)
        result = ptv2("train")
    assert result.code == 1
    run = only_run()
    assert f"error: {run}: the disk is full" in result.err
    assert "-> free some space; the same command continues" in result.err
    assert "Traceback" not in result.err
    assert not (run / "metrics.json").exists()
    again = ptv2("train")
    assert again.code == 0
    assert again.out.startswith("superglue/rte validation: accuracy ")


@pytest.mark.parametrize(("code", "words"), [(errno.EIO, TRAIN), (errno.ESTALE, SWEEP)])
def test_a_disk_that_fails(
    words: tuple[str, ...], code: int, material: Material, ptv2: Ptv2,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(path: Path, data: bytes) -> None:
        raise OSError(code, os.strerror(code))

    material.write(Path("config.yaml"))
    with monkeypatch.context() as patch:
        patch.setattr("ptv2_cli.training.checkpoint.replace_by", fail)
        result = ptv2(*words)
    assert result.code == 1
    told = " ".join(result.err.split())
    assert "error: runs/config-ptuning_v2-p3-s" in told
    assert f"the disk or the network file system failed: {os.strerror(code)}" in told
    assert "-> once it works, the same command continues from what is saved" in told
    assert "defect" not in told
    assert "Traceback" not in told
    assert ptv2(*words).code == 0


def test_a_disk_that_fails_while_reading(
    material: Material, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "data/train.jsonl")

    monkeypatch.setattr("ptv2_cli.runs.resolved_run.prepare", fail)
    material.write(Path("config.yaml"))
    result = ptv2("train")
    assert result.code == 1
    assert "error: data/train.jsonl: the disk or the network file system failed" in result.err
    assert "defect" not in result.err


def test_a_file_system_without_locks_and_syncs(
    material: Material, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("os.fsync", refuse)
    material.write(Path("config.yaml"))
    result = ptv2("train")
    assert result.code == 0, result.err
    told = " ".join(result.err.split())
    assert "has no locks: make sure that no second process writes there" in told
    assert "the file system cannot sync folders" in told
    assert ptv2("eval").out.endswith("equal\n")
    swept = ptv2("sweep", "--seed", "12,13")
    assert swept.code == 0, swept.err
    assert " ".join(swept.err.split()).count("has no locks") == 3  # of the sweep and of each run


@pytest.mark.parametrize(("removed", "words"), [("checkpoints", TRAIN), ("", SWEEP)])
def test_a_run_whose_folder_is_removed_meanwhile(
    words: tuple[str, ...], removed: str, material: Material, ptv2: Ptv2,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    really = RunRecorder.after_evaluation

    def remove(self: RunRecorder, *args: Any) -> None:
        really(self, *args)
        shutil.rmtree(self.directory.path / removed)

    material.write(Path("config.yaml"))
    with monkeypatch.context() as patch:
        patch.setattr(RunRecorder, "after_evaluation", remove)
        result = ptv2(*words)
    assert result.code == 1
    told = " ".join(result.err.split())
    assert "error: runs/config-ptuning_v2-p3-s" in told
    assert "the run's folder was removed while it trained" in told
    assert "defect" not in told
    assert ptv2(*words).code == 0


def test_a_full_disk_keeps_the_checkpoint_before(
    material: Material, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"steps": 4, "batch_size": 4, "lr": 0.05, "eval_every": 2}
    material.write(Path("config.yaml"), train=train)
    written = checkpoint.replace_by
    calls = 0

    def later(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls > 6:  # tensors and state of best, its scores and last, once each
            full(path, data)
        written(path, data)

    with monkeypatch.context() as patch:
        patch.setattr("ptv2_cli.training.checkpoint.replace_by", later)
        assert ptv2("train").code == 1
    again = ptv2("train")
    assert again.code == 0
    assert "resumed at step 2 of 4 steps" in again.err


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "the disk is full; free some space to keep them"),
        (errno.EROFS, "cannot be written: Read-only file system"),
        (errno.EIO, "the disk or the network file system failed: Input/output error"),
    ],
)
def test_eval_of_a_run_that_cannot_be_written_shows_its_scores(
    code: int, says: str, finished: Path, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, data: bytes) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("ptv2_cli.runs.results.write_atomic", fail)
    result = ptv2("eval", finished)
    assert result.code == 0
    assert result.out.count(", equal\n") == 2
    told = " ".join(result.err.split())
    for split in ("validation", "test"):
        place = finished / "eval" / f"{split}.json"
        assert f"warning: the scores above are not saved: {place}: {says}" in told


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), ["error: out of memory", "halve train.batch_size (or batch_tokens)"]),
        (ZeroDivisionError("x"), ["ZeroDivisionError: x", "bug in ptv2", "please report it"]),
    ],
)
def test_machine_and_defects(
    material: Material,
    ptv2: Ptv2,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    says: list[str],
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr("ptv2_cli.runs.session.open_session", fail)
    material.write(Path("config.yaml"))
    result = ptv2("train")
    assert result.code == 1
    for text in says:
        assert text in result.err
    assert ("Traceback" in result.err) is isinstance(error, ZeroDivisionError)
    assert not Path("runs").exists()
