"""Symbolic links where runs lie: followed where people name them, and nowhere below."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import Material, Ptv2, only_run, tree

NAMES = ("last-0.safetensors", "best.json", "validation.jsonl", "validation.json", "log.txt")


@pytest.fixture
def elsewhere() -> Path:
    """A folder of somebody's own files, under names that ptv2 writes and removes."""
    folder = Path("elsewhere")
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text("mine")
    return folder


@pytest.fixture
def interrupted(material: Material, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped before its end."""

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    material.write(Path("config.yaml"))
    with monkeypatch.context() as patch:
        patch.setattr("ptv2_cli.runs.recorder.RunRecorder.conclude", stop)
        assert ptv2("train").code == 130
    return only_run()


def test_the_output_folder_may_be_a_link(material: Material, ptv2: Ptv2, tmp_path: Path) -> None:
    material.write(Path("config.yaml"))
    (tmp_path / "scratch").mkdir()
    Path("runs").symlink_to(tmp_path / "scratch")
    assert ptv2("train").code == 0
    run = only_run()
    assert ptv2("eval", run).code == 0
    assert ptv2("sweep", "--seed", "11,12").code == 0
    assert (tmp_path / "scratch" / "sweeps").is_dir()


@pytest.mark.parametrize("name", ["", "checkpoints", "predictions", "eval"])
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_linked_folder_of_a_run_is_refused(
    name: str, resume: str, interrupted: Path, elsewhere: Path, ptv2: Ptv2
) -> None:
    place = interrupted / name
    if place.exists():
        place.rename("aside")
    place.symlink_to(elsewhere.resolve())
    if not name:  # so that it is found as the run
        (elsewhere / "config.yaml").write_text("mine")
    before = tree(elsewhere)
    result = ptv2("train", "--resume", resume)
    assert result.code == 2
    told = " ".join(result.err.split())
    assert f"error: {place}: is a symbolic link" in told
    assert "-> remove the link; --output may itself be a link to another disk" in told
    assert tree(elsewhere) == before


def test_a_linked_folder_of_sweeps_is_refused(
    material: Material, elsewhere: Path, ptv2: Ptv2
) -> None:
    material.write(Path("config.yaml"))
    Path("runs").mkdir()
    Path("runs/sweeps").symlink_to(elsewhere.resolve())
    result = ptv2("sweep", "--seed", "11,12")
    assert result.code == 2
    assert "error: runs/sweeps: is a symbolic link" in result.err
    assert sorted(path.name for path in elsewhere.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", [".config.yaml.tmp", "config.yaml", "history.jsonl"])
def test_a_linked_file_is_replaced_and_not_written_through(
    name: str, interrupted: Path, ptv2: Ptv2
) -> None:
    Path("mine").write_text("mine")
    content = (interrupted / name).read_bytes() if not name.startswith(".") else b""
    (interrupted / name).unlink(missing_ok=True)
    (interrupted / name).symlink_to(Path("mine").resolve())
    if content:
        Path("mine").write_bytes(content)
    assert ptv2("train").code == 0
    assert Path("mine").read_bytes() == (content or b"mine")
    assert not any(path.is_symlink() for path in interrupted.rglob("*"))


def test_a_linked_log_is_not_written(interrupted: Path, ptv2: Ptv2) -> None:
    Path("mine").write_text("mine")
    (interrupted / "log.txt").unlink()
    (interrupted / "log.txt").symlink_to(Path("mine").resolve())
    result = ptv2("train")
    assert result.code == 2
    assert f"{interrupted / 'log.txt'} is a symbolic link" in " ".join(result.err.split())
    assert Path("mine").read_text() == "mine"
