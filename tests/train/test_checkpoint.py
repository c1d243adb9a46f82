"""Checkpoints: whole, tidy, and refused when damaged or of another model."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import tiny
import torch

from ptv2_cli.errors import CheckpointError
from ptv2_cli.train import checkpoint
from ptv2_cli.train.checkpoint import fit_into, load_checkpoint, save_checkpoint

TENSORS = {
    "learner.head": torch.arange(6.0).view(2, 3),
    "optimizer.0.step": torch.tensor(3.0),
    "random.cpu": torch.arange(9, dtype=torch.uint8),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path, "last", TENSORS, {"progress": {"step": 3}, "loss": 0.1})
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_reads_back_equal(folder) -> None:
    found = load_checkpoint(folder, "last")
    assert found.state == {"progress": {"step": 3}, "loss": 0.1}
    assert found.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype
    assert list(found.part("learner")) == ["head"]


def test_views_and_transposes_are_saved_as_they_look(tmp_path) -> None:
    turned = torch.arange(6.0).view(2, 3).T
    save_checkpoint(tmp_path, "last", {"turned": turned}, {})
    assert torch.equal(load_checkpoint(tmp_path, "last").tensors["turned"], turned)


def test_saving_again_leaves_no_stale_files(folder) -> None:
    save_checkpoint(folder, "best", {"a": torch.zeros(2)}, {})
    for step in range(3):
        save_checkpoint(folder, "last", {"a": torch.full((2,), float(step))}, {"step": step})
        assert len(names(folder)) == 4
    assert load_checkpoint(folder, "last").tensors["a"].tolist() == [2.0, 2.0]
    assert load_checkpoint(folder, "best").tensors["a"].tolist() == [0.0, 0.0]


def test_equal_tensors_of_a_later_step_stay_readable(folder) -> None:
    save_checkpoint(folder, "last", TENSORS, {"step": 4})
    assert load_checkpoint(folder, "last").state == {"step": 4}
    assert len(names(folder)) == 2


def test_what_a_kill_left_is_cleaned_up_by_the_next_save(folder) -> None:
    (folder / ".last-0123456789abcdef.safetensors.tmp").write_bytes(b"half")
    (folder / "last-0123456789abcdef.safetensors").write_bytes(b"whole but unnamed")
    save_checkpoint(folder, "last", {"a": torch.ones(1)}, {})
    assert [name.split("-")[0] for name in names(folder)] == ["last", "last.json"]


@pytest.mark.parametrize("at", range(1, 5))
def test_a_failure_at_any_sync_leaves_the_old_checkpoint_or_the_new(
    at, folder, monkeypatch
) -> None:
    count, sync = [0], os.fsync

    def failing(file: int) -> None:
        count[0] += 1
        if count[0] == at:
            raise OSError("no space left")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", failing)
        with pytest.raises(OSError, match="no space"):
            save_checkpoint(folder, "last", {"a": torch.ones(1)}, {"new": True})
    found = load_checkpoint(folder, "last")
    if at < 4:  # the JSON's rename decides, and the fourth sync comes after it
        assert found.tensors.keys() == TENSORS.keys()
    else:
        assert found.state == {"new": True}


def damaged(folder: Path, name: str = "last") -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, name)
    assert "--resume never" in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_truncated(suffix, keep, folder) -> None:
    file = next(folder.glob(f"*.{suffix}"))
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file}: is truncated or altered" in damaged(folder)


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_any_flipped_bit(suffix, folder) -> None:
    file = next(folder.glob(f"*.{suffix}"))
    whole = file.read_bytes()
    draws = random.Random(1)
    for _ in range(40):
        at, bit = draws.randrange(len(whole)), draws.randrange(8)
        flipped = bytearray(whole)
        flipped[at] ^= 1 << bit
        file.write_bytes(flipped)
        try:
            found = load_checkpoint(folder, "last")
        except CheckpointError:
            continue
        # Only white space between the JSON's tokens may change without a trace.
        assert suffix == "json"
        assert chr(whole[at]).isspace()
        assert found.state == {"progress": {"step": 3}, "loss": 0.1}


def test_missing_files(folder) -> None:
    assert "best.json: is missing" in damaged(folder, "best")
    next(folder.glob("*.safetensors")).unlink()
    assert "safetensors: is missing" in damaged(folder)


def test_another_format(folder) -> None:
    path = folder / "last.json"
    body = json.loads(path.read_text())
    body["format"] = 2
    body.pop("checksum")
    body["checksum"] = checkpoint._checksum(body)
    path.write_text(json.dumps(body))
    assert "has format 2, this version reads 1" in damaged(folder)


def test_json_that_is_no_checkpoint(folder) -> None:
    (folder / "last.json").write_text("[1, 2]")
    assert "truncated or altered" in damaged(folder)


def test_another_shape_or_name_changes_nothing(folder_of, tmp_path) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")), prompt_len=4)
    longer = tiny.make_learner(tiny.load(folder_of("bert")), prompt_len=5, seed=1)
    before = {name: value.clone() for name, value in learner.own_state().items()}
    for state, complaint in (
        (longer.own_state(), "holds method.source.prompt (5, 192), the model has (4, 192)"),
        ({"head.other": torch.zeros(2)}, "the model has nothing of that name"),
    ):
        with pytest.raises(CheckpointError) as caught:
            fit_into(learner, state, tmp_path)
        assert complaint in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in learner.own_state().items())
