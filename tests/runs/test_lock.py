"""Two processes never write one run directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ptv2_cli.errors import RunError
from ptv2_cli.runs.lock import locked

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
        if Path("/proc/locks").exists():
            assert f"pid {other.pid}" in str(refused.value)
        other.kill()
    with locked(tmp_path):  # a killed process leaves no lock behind
        pass
    assert not list(tmp_path.iterdir())


def test_lock_is_let_go(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            pass
