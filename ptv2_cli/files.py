"""Files that appear whole or not at all, and are never written through a symbolic link.

The output folder that users name may be a link, to another disk for instance. Run folders, sweep
folders and what is in them may not: ptv2 writes and deletes their files without asking.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from ptv2_cli.errors import InputError, RunError

DISK_FAILED = {errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT}
"""What the system answers when a disk fails or a network file system is gone."""
UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}
"""What network and FUSE file systems answer to a call that they do not have."""


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one rename, after both are on the disk.

    Raises:
        OSError: it cannot be written; `path` is unchanged.
    """
    replace_by(path, data)
    sync_folder(path.parent)


def replace_by(path: Path, data: bytes) -> None:
    """As `write_atomic`, but the rename itself may not be on the disk yet: see `sync_folder`."""
    # A fresh name that must not exist: nobody can have put a link there.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def sync_folder(folder: Path) -> bool:
    """Write a folder's renames to the disk; False if the file system cannot.

    Windows has no such call, and its file systems keep a journal of renames: nothing to do.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return True
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _sync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder that only ptv2 writes, unless it exists; its parent must exist.

    Raises:
        RunError: it is a symbolic link.
        OSError: it cannot be made.
    """
    refuse_link(path)
    path.mkdir(exist_ok=True)


def refuse_link(path: Path) -> None:
    """Check that a folder in which files are written and deleted is no symbolic link.

    Raises:
        RunError: it is one.
    """
    if path.is_symlink():
        raise RunError.at(
            str(path),
            "is a symbolic link: ptv2 writes and deletes files in this folder, and follows no link",
            "remove the link; --output may itself be a link to another disk",
        )


def no_link(path: str, flags: int) -> int:
    """An `opener` for `open` that fails if the file is a symbolic link; Windows cannot tell."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files that a killed process has left in a folder.

    Nobody else may be writing in it.
    """
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _sync(descriptor: int) -> bool:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True


MAX_DEPTH = 100
"""How deep objects and lists may be nested; the code that reads them is recursive."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_json(text: str, where: str, error: type[InputError], hint: str = "") -> Any:
    """The value of a JSON text, in which every text can be written as UTF-8.

    Args:
        text: one JSON value; `NaN` and infinities are read too.
        where: what messages call the text.
        error: the class of the errors raised.
        hint: what to do if it cannot be read.

    Raises:
        InputError: of the class `error`: it is no JSON, brackets are nested too deeply, a number
            has thousands of digits, or a text holds half a surrogate pair.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as wrong:
        what = f"is no JSON: {wrong.msg} at line {wrong.lineno}, column {wrong.colno}"
        raise error.at(where, what, hint) from None
    except (ValueError, RecursionError) as wrong:  # a number of 5,000 digits, 1,000 brackets
        raise error.at(where, f"cannot be read: {wrong}", hint) from None
    reason = not_writable(value)
    if reason is not None:
        raise error.at(where, reason, hint)
    return value


def not_writable(value: Any) -> str | None:
    """Why nested data cannot be written as JSON in UTF-8: its depth, or a text; None: it can."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                lone = _LONE_SURROGATE.search(item)
                if lone is not None:
                    return f"half a surrogate pair: \\u{ord(lone[0]):04x}"
            elif isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
        if not below:
            return None
        level = below
    return f"nested more than {MAX_DEPTH} deep"
