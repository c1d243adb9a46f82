"""Checkpoints: whole, tidy, and refused when damaged or of another model."""

from __future__ import annotations

import json
import os
import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import tiny
import torch

from ptv2_cli.errors import CheckpointError, RunError
from ptv2_cli.training import checkpoint
from ptv2_cli.training.checkpoint import (
    Save,
    load_checkpoint,
    load_state,
    load_tensors,
    recover,
    resumable,
    save_checkpoint,
)

MARK = "0123abcd"
TENSORS = {
    "learner.head": torch.arange(6.0).view(2, 3),
    "optimizer.0.step": torch.tensor(3.0),
    "random.cpu": torch.arange(9, dtype=torch.uint8),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path, "last", MARK, TENSORS, {"progress": {"step": 3}, "loss": 0.1})
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_reads_back_equal(folder) -> None:
    found = load_checkpoint(folder, "last", MARK)
    assert found.state == {"progress": {"step": 3}, "loss": 0.1}
    assert found.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype
    assert list(found.part("learner")) == ["head"]


def test_views_and_transposes_are_saved_as_they_look(tmp_path) -> None:
    turned = torch.arange(6.0).view(2, 3).T
    save_checkpoint(tmp_path, "last", MARK, {"turned": turned}, {})
    assert torch.equal(load_checkpoint(tmp_path, "last", MARK).tensors["turned"], turned)


def test_saving_again_leaves_no_stale_files(folder) -> None:
    save_checkpoint(folder, "best", MARK, {"a": torch.zeros(2)}, {})
    for step in range(3):
        save_checkpoint(folder, "last", MARK, {"a": torch.full((2,), float(step))}, {"step": step})
        assert len(names(folder)) == 4
    assert load_checkpoint(folder, "last", MARK).tensors["a"].tolist() == [2.0, 2.0]
    assert load_checkpoint(folder, "best", MARK).tensors["a"].tolist() == [0.0, 0.0]


def test_equal_tensors_of_a_later_step_stay_readable(folder) -> None:
    save_checkpoint(folder, "last", MARK, TENSORS, {"step": 4})
    assert load_checkpoint(folder, "last", MARK).state == {"step": 4}
    assert len(names(folder)) == 2


def test_what_a_kill_left_is_cleaned_up_by_the_next_start(folder) -> None:
    before = names(folder)
    (folder / ".last-0123456789abcdef.safetensors.tmp").write_bytes(b"half, of an earlier version")
    (folder / ".last.json.01234567.tmp").write_bytes(b"half")
    (folder / "last-0123456789abcdef.safetensors").write_bytes(b"replaced, or whole but unnamed")
    (folder / "best-0123456789abcdef.safetensors").write_bytes(b"whole but unnamed")
    recover(folder)
    assert names(folder) == before
    load_checkpoint(folder, "last", MARK)


def test_files_of_a_damaged_checkpoint_are_left_where_they_are(folder) -> None:
    (folder / "last.json").write_text("damaged")
    before = names(folder)
    recover(folder)
    assert names(folder) == before


def trainer(*folders: Path, step: int) -> Save:
    """A save of several runs, written and not committed."""
    saving = Save()
    for number, at in enumerate(folders):
        tensors = {"a": torch.full((2,), float(10 * step + number))}
        saving.add(at, "last", MARK, tensors, {"step": step})
        saving.add(at, "best", MARK, tensors, {"step": step})
    return saving


@pytest.fixture
def lanes(tmp_path) -> list[Path]:
    """The checkpoints of three runs of one output folder, saved together."""
    folders = [tmp_path / f"run{number}" / "checkpoints" for number in range(3)]
    for one in folders:
        one.parent.mkdir()
    trainer(*folders, step=1).commit()
    return folders


def steps(lanes: list[Path]) -> list[int]:
    for one in lanes:
        recover(one)
        assert [name.split("-")[0] for name in names(one)] == [
            "best",
            "best.json",
            "last",
            "last.json",
        ]
    return [
        load_checkpoint(one, role, MARK).state["step"] for one in lanes for role in ("last", "best")
    ]


def test_what_was_not_committed_does_not_count(lanes) -> None:
    trainer(*lanes, step=2)
    assert steps(lanes) == [1] * 6


@pytest.mark.parametrize("renames", range(7))
def test_one_rename_commits_all(renames, lanes, monkeypatch) -> None:
    really, done = os.replace, 0

    def replace(*paths) -> None:
        nonlocal done
        if done == renames:
            raise KeyboardInterrupt
        done += 1
        really(*paths)

    saving = trainer(*lanes, step=2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with suppress(KeyboardInterrupt):
            saving.commit()
    assert resumable(lanes[2])
    assert steps(lanes) == [2 if renames else 1] * 6


def test_a_first_save_counts_for_all_or_none(tmp_path) -> None:
    folders = [tmp_path / name / "checkpoints" for name in ("a", "b")]
    for one in folders:
        one.parent.mkdir()
    trainer(*folders, step=1)
    assert not any(map(resumable, folders))
    (folders[0] / "last.next.json").rename(folders[0] / "last.json")
    assert all(map(resumable, folders))
    assert steps(folders) == [1] * 4


def test_a_waiting_checkpoint_whose_first_is_gone_does_not_count(lanes) -> None:
    trainer(*lanes, step=2)
    shutil.rmtree(lanes[0])
    (lanes[1] / "best.next.json").write_text("damaged")
    assert steps(lanes[1:]) == [1] * 4


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
        patch.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="no space"):
            save_checkpoint(folder, "last", MARK, {"a": torch.ones(1)}, {"new": True})
    found = load_checkpoint(folder, "last", MARK)
    assert not list(folder.glob(".*"))
    if at < 4:  # the JSON's rename decides, and the fourth sync comes after it
        assert found.tensors.keys() == TENSORS.keys()
    else:
        assert found.state == {"new": True}


def damaged(folder: Path, name: str = "last") -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, name, MARK)
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
            found = load_checkpoint(folder, "last", MARK)
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


def rewritten(folder: Path, **changes) -> None:
    """Change keys of the JSON, None removes one; the checksum is made anew."""
    path = folder / "last.json"
    body = json.loads(path.read_text()) | changes
    body = {key: value for key, value in body.items() if value is not None}
    body.pop("checksum")
    body["checksum"] = checkpoint._checksum(body)
    path.write_text(json.dumps(body))


def test_another_format(folder) -> None:
    rewritten(folder, format=2)
    assert "has format 2, this version reads 1" in damaged(folder)


def test_another_run(folder) -> None:
    with pytest.raises(CheckpointError, match="a checkpoint of the run 0123abcd, not of this run"):
        load_checkpoint(folder, "last", "4567cdef")
    with pytest.raises(CheckpointError, match="of the run 0123abcd"):
        load_state(folder, "last", "4567cdef")


def test_another_role(folder) -> None:
    (folder / "last.json").rename(folder / "best.json")
    assert "best.json: holds the checkpoint 'last', not 'best'" in damaged(folder, "best")


def test_of_a_version_that_did_not_say_whose_and_what_for(folder) -> None:
    old = {"fingerprint": None, "role": None, "save": None, "first": None}
    rewritten(folder, **old, state={"tracker": {}})
    assert load_checkpoint(folder, "last", "4567cdef").state == {"tracker": {}}
    (folder / "last.json").rename(folder / "best.json")
    assert "holds the checkpoint 'last', not 'best'" in damaged(folder, "best")


def test_a_folder_that_is_a_link_is_not_written(tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "last-0123456789abcdef.safetensors").write_bytes(b"mine")
    (tmp_path / "checkpoints").symlink_to("elsewhere")
    with pytest.raises(RunError, match="is a symbolic link"):
        save_checkpoint(tmp_path / "checkpoints", "last", MARK, TENSORS, {})
    assert names(tmp_path / "elsewhere") == ["last-0123456789abcdef.safetensors"]


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
            load_tensors(learner, state, tmp_path)
        assert complaint in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in learner.own_state().items())
