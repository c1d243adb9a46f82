"""A file written a piece at a time, that gets its name when it is whole."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from ptv2_cli.errors import InputError
from ptv2_cli.files import no_link
from ptv2_cli.run.directory import writing_at


class PartFile:
    """Lines to `FILE.part`, renamed to `FILE` by `finish`; whole lines at any time between.

    Raises:
        InputError: the folder is missing or the file cannot be written.
        MachineError: the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.lines = 0
        """Of rows; `head` and `tail` are none."""
        self.head = ""
        """What stands before the first line."""
        self.tail = ""
        """What stands behind the last line."""
        self._file: BinaryIO | None = None

    def write(self, lines: Iterable[str]) -> None:
        """Add lines, given without their ends; the first call makes the file."""
        data = [f"{line}\n" for line in lines]
        with self._guard():
            if self._file is None:
                # Unbuffered: one call writes a group of lines, so that a kill cuts none in two.
                self._file = open(self.part, "wb", buffering=0, opener=no_link)  # noqa: SIM115
                _write_all(self._file, self.head.encode())
            _write_all(self._file, "".join(data).encode())
        self.lines += len(data)

    def finish(self) -> None:
        """Give the file its name; nothing was written: an older file of that name goes."""
        if self._file is None:
            self.path.unlink(missing_ok=True)
            return
        with self._guard():
            _write_all(self._file, self.tail.encode())
            os.fsync(self._file.fileno())
            self._file.close()
            self.part.replace(self.path)

    def stop(self) -> None:
        """Leave an unfinished part as it is, unless it is empty."""
        if self._file is not None:
            self._file.close()
            if not self.lines:
                self.part.unlink(missing_ok=True)

    @property
    def kept(self) -> bool:
        """Whether lines are left in a part that was not finished."""
        return bool(self.lines) and self.part.exists()

    def _guard(self) -> AbstractContextManager[None]:
        full = f"free some space and run it again; {self.part} holds {self.lines:,} lines"
        return writing_at(self.path, "give another place to write to", full, InputError)


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def check_output(path: Path, source: Path | None) -> None:
    """See that a file can be written at `path`, before hours are spent on its content.

    Args:
        path: the file that will be written.
        source: a file that is read meanwhile, which it must not replace.

    Raises:
        InputError: no such folder, a folder itself, or the source.
    """
    folder = path.parent
    if not folder.is_dir():
        make = f"mkdir -p {shlex.quote(str(folder))}"
        raise InputError.at(str(path), f"there is no folder {folder}", make)
    if path.is_dir():
        raise InputError.at(str(path), "is a folder", f"--output {path / 'predictions.jsonl'}")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise InputError.at(
            str(path), "is the input, which it would replace", "--output ANOTHER_FILE"
        )
    if not os.access(folder, os.W_OK):
        raise InputError.at(
            str(path), f"{folder} cannot be written", "--output FILE in a folder of yours"
        )
