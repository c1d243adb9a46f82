"""Where outputs of lower layers are kept: for an epoch, in main memory, or on the disk."""

from __future__ import annotations

import tempfile
from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ptv2_cli.backbones.room import Keep, Room, free_disk, free_memory

EPOCH_BYTES = 2**30
"""Most that is held of an epoch; beyond it the oldest rows are computed anew."""


class Shelf(Protocol):
    """Hidden states [T, H] of rows, by what they were computed from."""

    def take(self, key: Hashable, times: int) -> Tensor | None:
        """The states of a row that `times` rows of a batch ask for, or None."""

    def put(self, key: Hashable, states: Tensor, left: int) -> None:
        """Keep a row's states, which `left` more rows of the epoch will ask for."""

    def close(self) -> None:
        """Give back what it holds."""


class ForEpoch:
    """Rows that others will ask for in the same epoch, where they were computed; then dropped."""

    def __init__(self, limit: int = EPOCH_BYTES) -> None:
        self.limit = limit
        self.held = 0
        self._rows: dict[Hashable, tuple[Tensor, int]] = {}

    def take(self, key: Hashable, times: int) -> Tensor | None:
        """A row's states; the last that asks for them takes them away."""
        found = self._rows.get(key)
        if found is None:
            return None
        states, left = found
        if left > times:
            self._rows[key] = (states, left - times)
        else:
            self._drop(key)
        return states

    def put(self, key: Hashable, states: Tensor, left: int) -> None:
        """Keep a row; the oldest go where there is no room."""
        if left <= 0:
            return
        self._rows[key] = (states.clone(), left)
        self.held += states.nbytes
        while self.held > self.limit:
            self._drop(next(iter(self._rows)))

    def close(self) -> None:
        """Forget all rows."""
        self._rows, self.held = {}, 0

    def _drop(self, key: Hashable) -> None:
        self.held -= self._rows.pop(key)[0].nbytes


class InMemory:
    """Every row for ever, in main memory, as long as there is room for more."""

    def __init__(self) -> None:
        self._rows: dict[Hashable, Tensor] = {}
        self._room = Room(free_memory)

    def take(self, key: Hashable, times: int) -> Tensor | None:
        """A row's states."""
        return self._rows.get(key)

    def put(self, key: Hashable, states: Tensor, left: int) -> None:
        """Keep a row by itself: a piece of a batch would hold the whole batch."""
        if self._room.has(states.nbytes):
            self._rows[key] = torch.empty(states.shape, dtype=states.dtype).copy_(states)

    def close(self) -> None:
        """Forget all rows."""
        self._rows = {}


class OnDisk:
    """Every row for ever, in one file without a name: whatever ends the process, it is gone.

    A row that finds no room any more is not kept.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the shelf
        self._places: dict[Hashable, tuple[int, torch.Size, torch.dtype]] = {}
        self._end = 0
        self._room = Room(partial(free_disk, folder))

    def take(self, key: Hashable, times: int) -> Tensor | None:
        """A row's states, read from the file."""
        if key not in self._places:
            return None
        start, shape, dtype = self._places[key]
        buffer = bytearray(shape.numel() * dtype.itemsize)
        self._file.seek(start)
        if self._file.readinto(buffer) != len(buffer):
            raise OSError(f"the temporary file of train.cache ends before byte {self._end}")
        return torch.frombuffer(buffer, dtype=dtype).view(shape)

    def put(self, key: Hashable, states: Tensor, left: int) -> None:
        """Write a row behind the last one."""
        if not self._room.has(states.nbytes):
            return
        plain = states.cpu().contiguous().view(torch.uint8).numpy()
        self._file.seek(self._end)
        self._file.write(plain.data)
        self._places[key] = (self._end, states.shape, states.dtype)
        self._end += plain.nbytes

    def close(self) -> None:
        """Close the file, with which it is gone."""
        self._file.close()
        self._places = {}


def shelf_of(keep: Keep, folder: Path | None) -> Shelf:
    """An empty shelf of a kind; `folder` is where the disk's file lies, else the system's own."""
    if keep == "disk":
        return OnDisk(folder)
    return InMemory() if keep == "memory" else ForEpoch()
