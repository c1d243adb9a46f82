"""One process at a time writes a run directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptv2_cli.errors import RunError
from ptv2_cli.files import UNSUPPORTED

LOCKS = Path("/proc/locks")
"""Where Linux says who holds which lock."""


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock; the system lets go of it when the process ends, however it ends.

    Gives False where the file system has no locks: then nothing keeps a second process away.

    Raises:
        RunError: another process holds it; the message says which, where the system tells.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield _lock(descriptor, folder)
    finally:
        os.close(descriptor)


def held(folder: Path) -> bool:
    """Whether a process holds the folder's lock, where the system tells (Linux); takes no lock."""
    return bool(_holder(folder.stat().st_ino))


def _lock(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError.at(
            str(folder),
            f"is being written by another process{_holder(os.fstat(descriptor).st_ino)}",
            "wait for it, or stop it: what it has saved is continued",
        ) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True


def unlocked_warning(folder: Path) -> str:
    """What to know where there are no locks."""
    return (
        f"the file system of {folder} has no locks: see to it that no second process writes there"
    )


def _holder(inode: int) -> str:
    """The process that holds a lock on the inode: `: FLOCK ADVISORY WRITE PID MAJ:MIN:INODE`."""
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return ""
    fields = (line.split() for line in lines)
    pids = (words[4] for words in fields if words[5].endswith(f":{inode}"))
    return next((f" (pid {pid})" for pid in pids), "")
