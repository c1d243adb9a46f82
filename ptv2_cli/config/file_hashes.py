"""The sha256 of large files, kept between commands: a file that has not changed is read once.

A file counts as unchanged if its path, size, inode and times of change are those of the time when
it was hashed. The time of the last change of its state (`ctime`) is among them, which no program
can set back. File systems may give two changes in a row the same time, so the hash of a file that
has changed within the last seconds is not kept.
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

from ptv2_cli import cache
from ptv2_cli.config.fingerprint import file_sha256

LEAST_BYTES = 1 << 20
"""Smaller files are hashed sooner than their hashes are looked up."""
SETTLED_SECONDS = 3.0
"""Age of a file's last change from which its hash is kept; FAT counts in steps of 2 seconds."""
_KIND = "file-hashes"
_FORMAT = "1"
_ENTRY = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{64})\n")


def known_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits; out of the cache if the file has not changed.

    Raises:
        InputError: the file cannot be read.
    """
    key = _key(path)
    if key is None:
        return file_sha256(path)
    kept = _kept(key)
    if kept is not None:
        return kept
    digest = file_sha256(path)
    if _key(path) == key and _settled(path):
        text = f"{digest} {_check(key, digest)}\n"

        def write(entry: Path) -> None:
            entry.write_text(text, encoding="utf-8")

        cache.keep(_KIND, *key, write=write)
    return digest


def _key(path: Path) -> tuple[str, ...] | None:
    """What the hash of a file is kept under; None: it is not kept."""
    try:
        state = path.stat()
        if state.st_size < LEAST_BYTES:
            return None
        numbers = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev)
        return (_FORMAT, str(path.resolve()), *map(str, numbers))
    except (OSError, RuntimeError):  # gone, or a circle of links: reading it tells
        return None


def _settled(path: Path) -> bool:
    """Whether the last change of a file is so long ago that another one would have another time."""
    try:
        state = path.stat()
    except OSError:
        return False
    return time.time() - max(state.st_mtime, state.st_ctime) > SETTLED_SECONDS


def _kept(key: tuple[str, ...]) -> str | None:
    entry = cache.find(_KIND, *key)
    if entry is None:
        return None
    try:
        match = _ENTRY.fullmatch(entry.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        match = None
    if match is None or match[2] != _check(key, match[1]):
        cache.drop(entry)
        return None
    return match[1]


def _check(key: tuple[str, ...], digest: str) -> str:
    text = "\n".join((*key, digest))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
