"""Files that appear whole or not at all, and are never written through a symbolic link.

The output folder that people name may be a link, to another disk for instance. Run folders, sweep
folders and what lies in them may not: their files are written and deleted without asking.
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

GIVEN_OUT = {errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT}
"""What the system answers where a disk fails or a network file system is gone."""
UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}
"""What network and FUSE file systems answer to a call that they do not have."""


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one rename, after both are on the disk.

    Raises:
        OSError: it cannot be written; `path` is as it was.
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
    """Bring a folder's renames to the disk; False where the file system cannot."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _sync(descriptor)
    finally:
        os.close(descriptor)


def own_folder(path: Path) -> None:
    """Make a folder that ptv2 alone writes, in one that exists; it may be there already.

    Raises:
        RunError: it is a symbolic link.
        OSError: it cannot be made.
    """
    require_no_link(path)
    path.mkdir(exist_ok=True)


def require_no_link(path: Path) -> None:
    """See that a folder in which files are written and deleted is no symbolic link.

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
    """An `opener` for `open` that fails where the file is a symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


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
"""Most objects and lists that lie inside each other; what reads them further is recursive."""
_HALF = re.compile("[\ud800-\udfff]")


def parse_json(text: str, where: str, error: type[InputError], hint: str = "") -> Any:
    """The value of a JSON text, in which every text can be written as UTF-8.

    Args:
        text: one JSON value; `NaN` and infinities are read too.
        where: what messages call the text.
        error: the class of the errors raised.
        hint: what to do where it cannot be read.

    Raises:
        InputError: of the class asked for: no JSON, brackets nested too deeply, a number of
            thousands of digits, or half a surrogate pair in a text.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as found:
        at = f"line {found.lineno}, column {found.colno}"
        raise error.at(where, f"is no JSON: {found.msg} at {at}", hint) from None
    except (ValueError, RecursionError) as found:  # a number of 5,000 digits, 1,000 brackets
        raise error.at(where, f"cannot be read: {found}", hint) from None
    bad = unfit(value)
    if bad is not None:
        raise error.at(where, bad, hint)
    return value


def unfit(value: Any) -> str | None:
    """Why nested data cannot be written out again: its depth, or a text; None: it can."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                half = _HALF.search(item)
                if half is not None:
                    return f"half a surrogate pair: \\u{ord(half[0]):04x}"
            elif isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
        if not below:
            return None
        level = below
    return f"nested more than {MAX_DEPTH} deep"
