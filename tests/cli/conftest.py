from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Material, Ptv2, Refused, Result, only_run, tree

from ptv2_cli.cli import console
from ptv2_cli.cli.app import main, run


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test in a folder of its own, offline, 80 columns wide, with a plain terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def material(
    tmp_path_factory: pytest.TempPathFactory, folder_of: Callable[[str], Path]
) -> Material:
    """A tiny backbone and a data set of each kind."""
    import tiny

    folder = tmp_path_factory.mktemp("material")
    return Material(
        bert=folder_of("bert"),
        rte=tiny.write_rte(folder / "rte", train=8, validation=6, test=4),
        ner=tiny.write_ner(folder / "ner", train=8, validation=4),
        squad=tiny.write_squad(folder / "squad", train=8, validation=4),
    )


@pytest.fixture
def ptv2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ptv2:
    """`ptv2("train", path)`: the command in this process."""

    def command(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["ptv2", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        assert isinstance(left.value.code, int)
        return Result(left.value.code, *capsys.readouterr())

    return command


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is a terminal of 80 columns without colours."""
    monkeypatch.setattr(console, "in_terminal", lambda stream: stream is console.out)


@pytest.fixture
def refused(ptv2: Ptv2, tmp_path: Path) -> Refused:
    """`refused("train", path, says=[...])`: exit code 2, a message, and nothing left behind."""

    def command(*words: object, says: list[str]) -> Result:
        before = tree(tmp_path)
        result = ptv2(*words)
        assert result.code == 2, result.err
        assert "Traceback" not in result.err
        assert result.out == ""
        for text in says:
            assert text in result.err
        assert tree(tmp_path) == before
        return result

    return command


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory, material: Material) -> Path:
    """The output folder of a finished run, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    config = material.write(folder / "config.yaml", report=["validation", "test"])
    assert run(["train", str(config), "--output", str(folder / "runs")]) == 0
    return folder


@pytest.fixture
def finished(_trained: Path, tmp_path: Path) -> Path:
    """A finished run under `runs/`; its config is `config.yaml` here."""
    shutil.copytree(_trained, tmp_path, dirs_exist_ok=True)
    return only_run(tmp_path / "runs")
