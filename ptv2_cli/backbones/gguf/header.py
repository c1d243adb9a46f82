"""Read the header of a GGUF file: its metadata and the table of its tensors, not their values.

The format is described in docs/gguf.md of the ggml project. The file is not trusted: every count
and length is compared with the bytes that are there.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ptv2_cli.errors import BackboneError

SUFFIX = ".gguf"
FETCH_AGAIN = "fetch the file again; backbone.sha256 checks that it arrived whole"
OTHER_COPY = "use a folder with the model in safetensors: backbone: FOLDER or a hub id"
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""The struct format of each type of number."""
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4
_ALIGNMENT = 32
"""Bytes, unless the metadata says otherwise."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in the file, and how it is stored."""

    name: str
    shape: tuple[int, ...]
    """The dimension that varies fastest comes first, as the file has it."""
    type_id: int
    """ggml's number of the type: 0 is F32, 1 F16, 3 Q4_1 and so on."""
    offset: int
    """Bytes from the start of the file."""


@dataclass(frozen=True)
class Header:
    """What a GGUF file says before its data."""

    metadata: Mapping[str, Any]
    """Numbers and texts by key; of an array only its length."""
    tensors: tuple[StoredTensor, ...]
    file_bytes: int

    def text(self, key: str) -> str:
        """A text of the metadata; empty if there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""


def is_gguf(name: str | Path) -> bool:
    """Whether a name ends as those of GGUF files do."""
    return str(name).lower().endswith(SUFFIX)


def read_header(path: Path) -> Header:
    """Read the header of a file.

    Raises:
        BackboneError: the file cannot be read, is no GGUF file, or is damaged.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
            if not start.startswith(_MAGIC):
                _refuse_other(path, start)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data).header()
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise BackboneError.at(str(path), what, f"check it with: ls -l {path}") from error


def _refuse_other(path: Path, start: bytes) -> NoReturn:
    """Raise the error of a file that does not begin as a GGUF file does."""
    if not start:
        raise BackboneError.at(str(path), "is empty", FETCH_AGAIN)
    if start.startswith(b"version https://git-lfs"):
        what = "is a pointer of Git LFS, not the GGUF file itself"
        raise BackboneError.at(str(path), what, "git lfs pull, in the folder of that repository")
    seen = start[:16].decode("ascii", "backslashreplace")
    raise BackboneError.at(
        str(path),
        f"is not a GGUF file: it begins with {seen!r}, not with 'GGUF'",
        f"{FETCH_AGAIN}; name the folder of a model that is saved as safetensors",
    )


class _Reader:
    """Reads values one after another."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._at = len(_MAGIC)

    def header(self) -> Header:
        version = self._number("I")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            what = f"is GGUF version {version}"
            if swapped in _VERSIONS:
                what = "is a GGUF file for big-endian machines"
            hint = "write it again with the converter of a current llama.cpp"
            raise BackboneError.at(str(self._path), f"{what}, which cannot be read", hint)
        tensor_count, key_count = self._number("Q"), self._number("Q")
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = self._string()
            metadata[key] = self._value(self._number("I"))
        entries = [self._entry() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            self._damaged(f"its general.alignment is {alignment}, not a power of two")
        start = -(-self._at // alignment) * alignment
        tensors = (
            StoredTensor(name, shape, kind, start + offset) for name, shape, kind, offset in entries
        )
        return Header(metadata, tuple(tensors), len(self._data))

    def _entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        count = self._number("I")
        if not 1 <= count <= _MOST_DIMENSIONS:
            self._damaged(f"its tensor {name[:60]!r} has {count} dimensions")
        shape = tuple(self._number("Q") for _ in range(count))
        return name, shape, self._number("I"), self._number("Q")

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            self._damaged(f"its metadata has a value of type {kind}, which does not exist")
        inner, count = self._number("I"), self._number("Q")
        if inner in _SCALARS:
            self._skip(count * struct.calcsize(f"<{_SCALARS[inner]}"))
        elif inner == _STRING:
            for _ in range(count):
                self._string()
        else:
            self._damaged(f"its metadata has a list of type {inner}, which cannot be read")
        return count

    def _string(self) -> str:
        length = self._number("Q")
        start = self._at
        self._skip(length)
        try:
            return self._data[start : self._at].decode()
        except UnicodeDecodeError:
            self._damaged(f"its header has a text at byte {start} that is not UTF-8")

    def _number(self, form: str) -> Any:
        start = self._at
        self._skip(struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{form}", self._data, start)[0]

    def _skip(self, size: int) -> None:
        if size > len(self._data) - self._at:
            self._damaged(f"it ends inside its header, after {len(self._data):,} bytes")
        self._at += size

    def _damaged(self, what: str) -> NoReturn:
        raise BackboneError.at(str(self._path), f"is damaged: {what}", FETCH_AGAIN)
