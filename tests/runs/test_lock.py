"""Two processes never write one run directory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptv2_cli.errors import RunError
from ptv2_cli.files import sync_folder
from ptv2_cli.runs import lock
from ptv2_cli.runs.lock import LOCK, _lock, in_use, locked

HOLD = """
import sys
from pathlib import Path
from ptv2_cli.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_process_is_refused_and_told_who(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another process") as refused, locked(tmp_path):
            pass
        assert f"(pid {other.pid})" in str(refused.value)
        assert in_use(tmp_path)
        other.kill()
        other.wait()
    assert (tmp_path / LOCK).exists()
    assert not in_use(tmp_path)
    with locked(tmp_path):  # a killed process leaves no lock behind
        pass
    assert not list(tmp_path.iterdir())


def test_lock_is_released(tmp_path: Path) -> None:
    assert not in_use(tmp_path)
    for _ in range(2):
        with locked(tmp_path):
            assert in_use(tmp_path)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", ["", " 99999999 here\n"], ids=["new", "of a killed process"])
def test_a_process_that_only_looks_is_waited_for(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "here")
    (tmp_path / LOCK).write_text(left)
    looking = _lock(tmp_path)
    looking.acquire()
    waited: list[int] = []
    read = lock._read_holder

    def released(folder: Path) -> tuple[int, str]:
        found = read(folder)
        waited.append(1)
        looking.release()
        return found

    monkeypatch.setattr(lock, "_read_holder", released)
    with locked(tmp_path):
        assert in_use(tmp_path)
    assert waited


def test_who_only_looks_leaves_no_name(tmp_path: Path) -> None:
    with locked(tmp_path, looking=True):
        assert (tmp_path / LOCK).read_text() == ""
    assert not list(tmp_path.iterdir())


def test_holder_on_another_machine_is_named_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(tmp_path):
        pid = os.getpid()
        monkeypatch.setattr("platform.node", lambda: "another")
        here = (tmp_path / LOCK).read_text()[1:].split()[1]
        with pytest.raises(RunError, match=f"pid {pid} on {here}"), locked(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_lock_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError

    with locked(tmp_path):
        monkeypatch.setattr("filelock.FileLock.acquire", refuse)
        assert in_use(tmp_path)
        monkeypatch.setattr("psutil.pid_exists", lambda pid: False)
        assert not in_use(tmp_path)


def test_a_link_is_not_locked(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(RunError, match="symbolic link"), locked(link):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_locks_and_syncs(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("os.fsync", refuse)
    with locked(tmp_path) as has_locks:
        assert not has_locks
    assert not sync_folder(tmp_path)
