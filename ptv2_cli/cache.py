"""Results that one command leaves for the next: they save time and can be computed again.

The folder is `PTV2_CACHE`, else `ptv2` in the user's cache folder; `PTV2_CACHE=off` turns the
cache off. A cache that cannot be read or written never fails a command. Anything may be deleted
at any time.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 4 * 2**30
"""What all files hold at most; the entries that were not used for longest go first."""
UNUSED_SECONDS = 30 * 86400.0
"""A folder that was not used for so long goes when another one is made."""
_ABANDONED_SECONDS = 86400.0
"""Age of a half-written folder that no running command can be writing."""


def cache_folder() -> Path | None:
    """Where entries are kept; None: the user has turned the cache off."""
    chosen = os.environ.get("PTV2_CACHE", "")
    if chosen.lower() in {"off", "0", "no", "false"}:
        return None
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "ptv2"


def find(kind: str, *key: str) -> Path | None:
    """The file or folder of an entry, which then counts as just used; None: there is none.

    Args:
        kind: what is kept; each has its own folder.
        key: all that the content depends on: hashes, options, versions.
    """
    path = _path(kind, key)
    if path is None:
        return None
    try:
        os.utime(path)
    except OSError:
        return None
    return path


def keep(kind: str, *key: str, write: Callable[[Path], None]) -> Path | None:
    """Make an entry: `write` fills the file at the path that it is given.

    Returns the entry's file, or None if it cannot be kept: the cache is off, the disk is full or
    the folder is not writable. Errors of other types come from `write` and are raised.
    """
    path = _path(kind, key)
    if path is None:
        return None
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
        _trim(path)
    except OSError:
        return None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def keep_folder(kind: str, *key: str, fill: Callable[[Path], None]) -> Path | None:
    """As `keep`, for an entry that is a folder: `fill` fills the empty folder that it is given.

    If another process makes the same entry meanwhile, the one that is there first stays.
    """
    path = _path(kind, key)
    if path is None:
        return None
    temporary = _beside(path)
    try:
        temporary.mkdir(parents=True)
        _drop_old_folders(path.parent)
        fill(temporary)
        with suppress(OSError):
            temporary.rename(path)
        return path if path.is_dir() else None
    except OSError:
        return None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def drop(path: Path) -> None:
    """Delete an entry that turned out to be damaged."""
    with suppress(OSError):
        if path.is_dir():  # out of the way in one step: nobody may find the half of it
            path = path.rename(_beside(path))
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _path(kind: str, key: tuple[str, ...]) -> Path | None:
    folder = cache_folder()
    # Each part's length keeps ("ab", "c") and ("a", "bc") apart.
    text = "".join(f"{len(part)}:{part}" for part in key)
    name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return None if folder is None else folder / kind / name


def _beside(path: Path) -> Path:
    """A new hidden name in the folder of an entry."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _drop_old_folders(kind: Path) -> None:
    """Delete folders that nobody has used for long, and those of commands that were killed."""
    for path in kind.iterdir():
        with suppress(OSError):
            hidden = path.name.startswith(".")
            limit = _ABANDONED_SECONDS if hidden else UNUSED_SECONDS
            if path.is_dir() and time.time() - path.stat().st_mtime > limit:
                shutil.rmtree(path) if hidden else drop(path)


def _trim(new: Path) -> None:
    """Delete the files that were used longest ago until all fit; `new` stays."""
    used: list[tuple[float, int, Path]] = []
    for path in new.parent.parent.glob("*/*"):
        with suppress(OSError):
            state = path.stat()
            if stat.S_ISREG(state.st_mode):
                used.append((state.st_mtime, state.st_size, path))
    total = sum(size for _, size, _ in used)
    for _, size, path in sorted(used):
        if total <= MOST_BYTES:
            break
        if path != new:
            drop(path)
            total -= size
