"""Where outputs of lower layers are kept: for an epoch, in main memory, or on the disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import psutil
import torch
from torch import Tensor

from ptv2_cli.errors import ConfigError

EPOCH_BYTES = 2**30
"""Most that is held of an epoch; beyond it the oldest rows are computed anew."""


class ActivationStore(Protocol):
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
        self._space = FreeSpace(free_memory)

    def take(self, key: Hashable, times: int) -> Tensor | None:
        """A row's states."""
        return self._rows.get(key)

    def put(self, key: Hashable, states: Tensor, left: int) -> None:
        """Keep a row by itself: a piece of a batch would hold the whole batch."""
        if self._space.has(states.nbytes):
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
        self._file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the store
        self._places: dict[Hashable, tuple[int, torch.Size, torch.dtype]] = {}
        self._end = 0
        self._space = FreeSpace(partial(free_disk, folder))

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
        if not self._space.has(states.nbytes):
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


def open_store(keep: Keep, folder: Path | None) -> ActivationStore:
    """An empty store of a kind; `folder` is where the disk's file lies, else the system's own."""
    if keep == "disk":
        return OnDisk(folder)
    return InMemory() if keep == "memory" else ForEpoch()


Keep = Literal["epoch", "memory", "disk"]
RESERVE = 2**29
"""Bytes that stay free for all else: activations, checkpoints."""
LOOK_EVERY = 2**26
"""Bytes kept between two looks at what is free."""


class FreeSpace:
    """Whether there is still room, asked for every piece and looked up now and then.

    Lanes whose prompts have different lengths or lowest layers keep more than one run was
    measured for, and others use the machine too.
    """

    def __init__(self, free: Callable[[], int | None]) -> None:
        self._free = free
        self._since = LOOK_EVERY
        self._there = True

    def has(self, size: int) -> bool:
        """Whether `size` more bytes may be kept."""
        self._since += size
        if self._since >= LOOK_EVERY:
            free = self._free()
            self._there = free is None or free - size > RESERVE
            self._since = 0
        return self._there


class _Sized(Protocol):
    @property
    def tokens(self) -> int:
        """Positions of all inputs of a feature."""


def needed_bytes(features: Sequence[_Sized], hidden_size: int, dtype: torch.dtype) -> int:
    """Bytes of the hidden states of all tokens of some features, H values of a type each."""
    return sum(item.tokens for item in features) * hidden_size * dtype.itemsize


def require_space(keep: Keep, needed: int, folder: Path | None = None) -> None:
    """Refuse to keep more than there is room for.

    Raises:
        ConfigError: memory or disk has fewer than `needed` bytes free, where that can be known.
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
        f"{keep} would take {_gib(needed)} of {where}, which has {_gib(free)} free",
        f"{other}leave train.cache out, or take fewer rows with task.limit",
    )


def free_memory() -> int | None:
    """Bytes of main memory that a process can still take; None where the system does not say."""
    try:
        return int(psutil.virtual_memory().available)
    except OSError:  # Linux without /proc
        return None


def free_disk(folder: Path | None) -> int:
    """Bytes free where a folder lies or will lie; None: the system's for temporary files."""
    at = Path(folder or tempfile.gettempdir()).absolute()
    there = next(path for path in (at, *at.parents) if path.exists())
    return shutil.disk_usage(there).free


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:,.1f} MiB"
