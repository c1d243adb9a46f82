"""Where a run came from: the command, the code beside it, the machine, and when it ran."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

GIT_SECONDS = 5.0
"""Longest wait for each of git's two answers; a large repository on a slow disk may need more."""
_GIT = (
    *("git", "--no-optional-locks"),
    # Neither answer may run a program that the repository's own settings name.
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
)


def now() -> str:
    """The local time with its zone, ISO 8601, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def provenance(started: str | None) -> dict[str, Any]:
    """`provenance` of metrics.json; the run ends now. `started`: its first start, as of `now`."""
    return {
        "command": command_line(),
        "git": git_state(),
        "host": _printable(platform.node()) or None,
        "started": started,
        "ended": now(),
    }


def command_line() -> str | None:
    """What was typed, quoted for a shell; None where there is no command and no script.

    `ptv2 ...` for the command, `SCRIPT ...` for a Python program that trains by itself.
    """
    program, *arguments = sys.argv or [""]
    if program in {"", "-c", "-m"}:
        return None
    path = Path(program)
    ours = path.stem == "ptv2" or path.parts[-2:] == ("ptv2_cli", "__main__.py")
    return _printable(shlex.join(["ptv2" if ours else program, *arguments]))


@cache
def git_state() -> dict[str, Any] | None:
    """`commit` of the working folder's repository, and whether tracked files differ (`dirty`).

    None without git, without a repository or before its first commit; `dirty` is None where git
    did not answer in time. Asked once in a process: a long run keeps the state it began with.
    """
    commit = _git("rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    """What git answers, None where it cannot."""
    try:
        done = subprocess.run(
            [*_GIT, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _printable(text: str) -> str:
    """The text without bytes that are no UTF-8, which JSON cannot hold."""
    return text.encode("utf-8", "replace").decode()
