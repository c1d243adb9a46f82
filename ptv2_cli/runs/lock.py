"""One process at a time writes a run folder or a sweep folder."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from ptv2_cli.errors import RunError
from ptv2_cli.files import UNSUPPORTED, refuse_link

LOCK = ".lock"
"""The lock file in a folder. It is removed with the lock; a killed process leaves it, unlocked."""
_WAIT = 0.1
"""Seconds to wait for the lock before looking who holds it."""
_MOMENT = 10.0
"""Longest time in seconds that a process may hold the lock without a name, only to look."""
_HOLDER_AT = 1
"""Where the holder's name begins: Windows lets nobody else read the first byte, which is locked."""


@contextmanager
def locked(folder: Path, *, looking: bool = False) -> Iterator[bool]:
    """Hold the folder's lock; the system releases it when the process ends, however it ends.

    Yields False where the file system has no locks: then nothing keeps a second process away.

    Args:
        folder: a run folder or a sweep folder.
        looking: whether to hold it for a moment only, without a name; other processes wait so long.

    Raises:
        RunError: another process holds it; the message names that process.
    """
    refuse_link(folder)
    lock = _lock(folder)
    try:
        _acquire(lock, folder)
    except Timeout:
        raise RunError.at(
            str(folder),
            f"is being written by another process{_holder(folder)}",
            "wait for it, or stop it; the same command then continues from what it has saved",
        ) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    if lock.is_locked and not looking:
        _write_holder(folder)
    try:
        yield lock.is_locked
    finally:
        # While it is still locked: whoever waits for the removed file asks for a new one.
        with suppress(OSError):
            (folder / LOCK).unlink()
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a process holds the folder's lock; nothing in the folder changes."""
    if not (folder / LOCK).is_file():
        return False
    try:
        with _lock(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder of another user, or one that cannot be written
        pid, host = _read_holder(folder)
        return host == platform.node() and psutil.pid_exists(pid)


def unlocked_warning(folder: Path) -> str:
    """What to know where there are no locks."""
    return (
        f"the file system of {folder} has no locks: make sure that no second process writes there"
    )


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / LOCK, thread_local=False, fallback_to_soft=False)


def _acquire(lock: FileLock, folder: Path) -> None:
    """Get the lock, waiting for processes that only look: they hold it without a name.

    Raises:
        Timeout: a process holds it that writes.
    """
    until = time.monotonic() + _MOMENT
    while True:
        try:
            lock.acquire(timeout=_WAIT)
        except Timeout:
            if _is_named(folder) or time.monotonic() > until:
                raise
        else:
            return


def _is_named(folder: Path) -> bool:
    """Whether the lock has the name of a process that may be alive; a killed one left its name."""
    pid, host = _read_holder(folder)
    return pid >= 0 and (host != platform.node() or psutil.pid_exists(pid))


def _write_holder(folder: Path) -> None:
    with suppress(OSError), (folder / LOCK).open("r+b", buffering=0) as file:
        file.seek(_HOLDER_AT)
        file.write(f"{os.getpid()} {platform.node()}\n".encode())
        file.truncate()


def _read_holder(folder: Path) -> tuple[int, str]:
    """The pid and the host of the process that holds the lock; (-1, "") if they are not known."""
    try:
        with (folder / LOCK).open("rb", buffering=0) as file:
            file.seek(_HOLDER_AT)
            pid, _, host = file.read(1000).decode().strip().partition(" ")
        return int(pid), host
    except (OSError, ValueError):
        return -1, ""


def _holder(folder: Path) -> str:
    pid, host = _read_holder(folder)
    if pid < 0:
        return ""
    return f" (pid {pid})" if host == platform.node() else f" (pid {pid} on {host})"
