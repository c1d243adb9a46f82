"""Folders that cannot be written, disks that are full, and defects."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2, Refused, only_run

from ptv2_cli.train import checkpoint


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
    ["run.training.write_atomic", "train.checkpoint.write_atomic", "run.results.write_json"],
)
def test_a_full_disk(
    material: Material, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    material.write(Path("config.yaml"))
    target = "run.training.write_json" if place.endswith("write_json") else place
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


def test_a_full_disk_keeps_the_checkpoint_before(
    material: Material, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"steps": 4, "batch_size": 4, "lr": 0.05, "eval_every": 2}
    material.write(Path("config.yaml"), train=train)
    written = checkpoint.write_atomic
    calls = 0

    def later(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:  # tensors and state of best and last, once each
            full(path, data)
        written(path, data)

    with monkeypatch.context() as patch:
        patch.setattr("ptv2_cli.train.checkpoint.write_atomic", later)
        assert ptv2("train").code == 1
    again = ptv2("train")
    assert again.code == 0
    assert "resumed at step 2 of 4 steps" in again.err


def test_a_full_disk_at_eval(finished: Path, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptv2_cli.run.results.write_atomic", full)
    result = ptv2("eval", finished)
    assert result.code == 1
    assert f"error: {finished}: the disk is full" in result.err


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), ["error: out of memory", "halve train.batch_size and double train.acc"]),
        (ZeroDivisionError("x"), ["ZeroDivisionError: x", "defect of ptv2", "please report it"]),
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

    monkeypatch.setattr("ptv2_cli.run.session.open_session", fail)
    material.write(Path("config.yaml"))
    result = ptv2("train")
    assert result.code == 1
    for text in says:
        assert text in result.err
    assert ("Traceback" in result.err) is isinstance(error, ZeroDivisionError)
    assert not Path("runs").exists()
