"""One process at a time writes a run directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptv2_cli.errors import RunError

LOCKS = Path("/proc/locks")
"""Where Linux says who holds which lock."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process ends, however it ends.

    Raises:
        RunError: another process holds it; the message says which, where the system tells.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError.at(
                str(folder),
                f"is being written by another process{_holder(os.fstat(descriptor).st_ino)}",
                "wait for it, or stop it: what it has saved is continued",
            ) from None
        yield
    finally:
        os.close(descriptor)


def held(folder: Path) -> bool:
    """Whether a process holds the folder's lock, where the system tells (Linux); takes no lock."""
    return bool(_holder(folder.stat().st_ino))


def _holder(inode: int) -> str:
    """The process that holds a lock on the inode: `: FLOCK ADVISORY WRITE PID MAJ:MIN:INODE`."""
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return ""
    fields = (line.split() for line in lines)
    pids = (words[4] for words in fields if words[5].endswith(f":{inode}"))
    return next((f" (pid {pid})" for pid in pids), "")
