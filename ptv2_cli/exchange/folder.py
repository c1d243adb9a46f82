"""Folders that appear whole: written beside their place under another name, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptv2_cli.errors import InputError
from ptv2_cli.run.directory import writing_at

_ELSEWHERE = "name another folder"


def require_new(path: Path) -> None:
    """See that `path` is free, before anything is loaded for it.

    Raises:
        InputError: it is a file, a folder with something in it, or cannot be looked at.
    """
    with writing_at(path, _ELSEWHERE, "free some space", InputError):
        if path.exists() and not path.is_dir():
            raise InputError.at(str(path), "is a file, not a folder", _ELSEWHERE)
        if path.is_dir() and any(path.iterdir()):
            raise InputError.at(
                str(path), "is a folder with something in it", f"{_ELSEWHERE}, or empty this one"
            )


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to write into, which becomes `path` at the end; after an error it is gone.

    Raises:
        InputError: `path` is taken, or cannot be written.
        MachineError: the disk is full.
    """
    require_new(path)
    partial = path.absolute().with_name(f".{path.absolute().name}.{os.getpid()}.part")
    with writing_at(path, _ELSEWHERE, "free some space and run it again", InputError):
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        try:
            yield partial
            partial.rename(path)  # over an empty folder too
        finally:
            shutil.rmtree(partial, ignore_errors=True)
