"""Stores for the outputs of lower layers: for one epoch, in main memory, or on disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import psutil
import torch
from torch import Tensor

from ptv2_cli.errors import ConfigError
from ptv2_cli.memory import in_words

EPOCH_BYTES = 2**30
"""Size limit of the store for one epoch; beyond it the oldest rows are computed again."""


class ActivationStore(Protocol):
    """Hidden states [T, H] of rows, by cache key."""

    def take(self, key: Hashable, times: int) -> Tensor | None:
        """The states of a row that `times` rows of a batch need, or None."""

    def put(self, key: Hashable, states: Tensor, left: int) -> None:
        """Store a row's states, which `left` more rows of the epoch will need."""

    def close(self) -> None:
        """Release the memory or the file."""


class ForEpoch:
    """Keeps rows as long as the same epoch needs them, on the device that computed them."""

    def __init__(self, limit: int = EPOCH_BYTES) -> None:
        self.limit = limit
        self.size = 0
        self._rows: dict[Hashable, tuple[Tensor, int]] = {}

    def take(self, key: Hashable, times: int) -> Tensor | None:
        """A row's states; the last use removes them."""
        entry = self._rows.get(key)
        if entry is None:
            return None
        states, left = entry
        if left > times:
            self._rows[key] = (states, left - times)
        else:
            self._drop(key)
        return states

    def put(self, key: Hashable, states: Tensor, left: int) -> None:
        """Store a row; drop the oldest rows beyond the limit."""
        if left <= 0:
            return
        self._rows[key] = (states.clone(), left)
        self.size += states.nbytes
        while self.size > self.limit:
            self._drop(next(iter(self._rows)))

    def close(self) -> None:
        """Forget all rows."""
        self._rows, self.size = {}, 0

    def _drop(self, key: Hashable) -> None:
        self.size -= self._rows.pop(key)[0].nbytes


class InMemory:
    """Keeps every row in main memory, as long as there is enough free memory."""

    def __init__(self) -> None:
        self._rows: dict[Hashable, Tensor] = {}
        self._space = FreeSpace(free_memory)

    def take(self, key: Hashable, times: int) -> Tensor | None:
        """A row's states."""
        return self._rows.get(key)

    def put(self, key: Hashable, states: Tensor, left: int) -> None:
        """Store a copy of a row, because a slice would keep its whole batch in memory."""
        if self._space.has(states.nbytes):
            self._rows[key] = torch.empty(states.shape, dtype=states.dtype).copy_(states)

    def close(self) -> None:
        """Forget all rows."""
        self._rows = {}


class OnDisk:
    """Keeps every row in one unnamed temporary file, which is gone when the process ends.

    A row is not stored if the disk is nearly full.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the store
        self._entries: dict[Hashable, tuple[int, torch.Size, torch.dtype]] = {}
        self._end = 0
        self._space = FreeSpace(partial(free_disk, folder))

    def take(self, key: Hashable, times: int) -> Tensor | None:
        """A row's states, read from the file."""
        if key not in self._entries:
            return None
        start, shape, dtype = self._entries[key]
        buffer = bytearray(shape.numel() * dtype.itemsize)
        self._file.seek(start)
        if self._file.readinto(buffer) != len(buffer):
            raise OSError(f"the temporary file of train.cache ends before byte {self._end}")
        return torch.frombuffer(buffer, dtype=dtype).view(shape)

    def put(self, key: Hashable, states: Tensor, left: int) -> None:
        """Append a row to the file."""
        if not self._space.has(states.nbytes):
            return
        plain = states.cpu().contiguous().view(torch.uint8).numpy()
        self._file.seek(self._end)
        self._file.write(plain.data)
        self._entries[key] = (self._end, states.shape, states.dtype)
        self._end += plain.nbytes

    def close(self) -> None:
        """Close the file, which deletes it."""
        self._file.close()
        self._entries = {}


def open_store(keep: Keep, folder: Path | None) -> ActivationStore:
    """An empty store; `folder` is the folder of the file on disk, by default the system's."""
    if keep == "disk":
        return OnDisk(folder)
    return InMemory() if keep == "memory" else ForEpoch()


Keep = Literal["epoch", "memory", "disk"]
RESERVE = 2**29
"""Bytes that must stay free for everything else: activations, checkpoints."""
LOOK_EVERY = 2**26
"""Bytes to store between two checks of the free space."""


class FreeSpace:
    """Whether there is enough free space, checked again every LOOK_EVERY bytes.

    A check at the start is not enough: lanes whose prompts differ in length or lowest layer store
    more than one run was measured for, and other processes use the machine too.
    """

    def __init__(self, free: Callable[[], int | None]) -> None:
        self._free = free
        self._since = LOOK_EVERY
        self._enough = True

    def has(self, size: int) -> bool:
        """Whether `size` more bytes may be stored."""
        self._since += size
        if self._since >= LOOK_EVERY:
            free = self._free()
            self._enough = free is None or free - size > RESERVE
            self._since = 0
        return self._enough


def needed_bytes(tokens: int, hidden_size: int, dtype: torch.dtype) -> int:
    """Bytes of the hidden states of so many tokens: H values of `dtype` each."""
    return tokens * hidden_size * dtype.itemsize


def require_space(keep: Keep, needed: int, folder: Path | None = None) -> None:
    """Check that the store has enough space.

    Raises:
        ConfigError: memory or disk has fewer than `needed` bytes free, if the system tells.
    """
    if keep == "epoch":
        return
    free = free_memory() if keep == "memory" else free_disk(folder)
    if free is None or needed <= free:
        return
    where = "memory" if keep == "memory" else f"the disk of {folder or tempfile.gettempdir()}"
    other = "write train.cache: disk, " if keep == "memory" else "free some space, "
    raise ConfigError.at(
        "train.cache",
        f"{keep} would take {in_words(needed)} of {where}, which has {in_words(free)} free",
        f"{other}remove train.cache, or use fewer rows with task.limit",
    )


def free_memory() -> int | None:
    """Bytes of main memory that a process can still use; None if the system does not tell."""
    try:
        return int(psutil.virtual_memory().available)
    except OSError:  # Linux without /proc
        return None


def free_disk(folder: Path | None) -> int:
    """Free bytes on the disk of a folder, which may not exist yet; None: the temporary folder."""
    path = Path(folder or tempfile.gettempdir()).absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(existing).free
