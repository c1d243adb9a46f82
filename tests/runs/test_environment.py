"""Where a run came from: command, commit, host, start and end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
import tiny

from ptv2_cli.errors import Interrupted
from ptv2_cli.runs import environment
from ptv2_cli.runs.environment import command_line, git_state
from ptv2_cli.training.events import EvalDone

WHO = ("-c", "user.name=x", "-c", "user.email=x@example.org")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    git_state.cache_clear()
    yield
    git_state.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *WHO, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "config.yaml").write_text("a: 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    monkeypatch.chdir(folder)
    return folder


def test_the_commit_of_the_working_folder(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "runs").mkdir()
    (repository / "runs" / "log.txt").write_text("a file that git does not know\n")
    assert git_state() == {"commit": commit, "dirty": False}
    (repository / "config.yaml").write_text("a: 2\n")
    assert git_state() == {"commit": commit, "dirty": False}, "as it was when the run began"
    git_state.cache_clear()
    assert git_state() == {"commit": commit, "dirty": True}


def test_nothing_where_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert git_state() is None
    git_state.cache_clear()
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state() is None


def test_a_slow_git_is_not_waited_for(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "bin"
    slow.mkdir()
    (slow / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (slow / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow}:/usr/bin:/bin")
    monkeypatch.setattr(environment, "GIT_SECONDS", 0.1)
    assert git_state() is None


def test_a_repository_runs_no_program_of_its_own(repository: Path, tmp_path: Path) -> None:
    planted = tmp_path / "ran"
    git(repository, "config", "core.fsmonitor", f"touch {planted}; false")
    assert git_state() is not None
    assert not planted.exists()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["/venv/bin/ptv2", "train", "my config.yaml"], "ptv2 train 'my config.yaml'"),
        (["/x/ptv2_cli/__main__.py", "train"], "ptv2 train"),
        (["study.py", "--seeds", "3"], "study.py --seeds 3"),
        (["-c"], None),
        ([""], None),
    ],
)
def test_the_command_as_it_was_typed(
    typed: list[str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", typed)
    assert command_line() == expected


def test_a_command_with_bytes_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ptv2", "train", "\udcff.yaml"])
    assert json.dumps(command_line(), ensure_ascii=False).encode() == b"\"ptv2 train '?.yaml'\""


def test_a_resumed_run_began_at_its_first_start(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.write_config(
        tmp_path / "x.yaml", folder_of("bert"), tiny.write_rte(tmp_path / "rte")
    )
    clock = iter(f"2026-01-0{day}T10:00:00+01:00" for day in range(1, 9))
    monkeypatch.setattr("ptv2_cli.runs.recorder.now", lambda: next(clock))

    def stop(event: object) -> None:
        if isinstance(event, EvalDone):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        tiny.trained(config, tmp_path / "runs", listen=stop)
    _, metrics = tiny.trained(config, tmp_path / "runs", resume=True)
    found = metrics["provenance"]
    assert found.keys() == {"command", "git", "host", "started", "ended"}
    assert found["started"] == "2026-01-01T10:00:00+01:00"
    ended = datetime.fromisoformat(found["ended"])
    assert ended.tzinfo is not None
    assert abs((datetime.now().astimezone() - ended).total_seconds()) < 60
