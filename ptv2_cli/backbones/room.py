"""How much room there is to keep things: in main memory, or on a disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch

from ptv2_cli.errors import ConfigError

Keep = Literal["epoch", "memory", "disk"]
MEMORY_INFO = Path("/proc/meminfo")
RESERVE = 2**29
"""Bytes that stay free for all else: activations, checkpoints."""
LOOK_EVERY = 2**26
"""Bytes kept between two looks at what is free."""


class Room:
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


def require_room(keep: Keep, needed: int, folder: Path | None = None) -> None:
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
        lines = MEMORY_INFO.read_text(encoding="ascii").splitlines()
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    for pages in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):  # not all systems know what is free
        try:
            return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            continue
    return None


def free_disk(folder: Path | None) -> int:
    """Bytes free where a folder lies or will lie; None: the system's for temporary files."""
    at = Path(folder or tempfile.gettempdir()).absolute()
    there = next(path for path in (at, *at.parents) if path.exists())
    return shutil.disk_usage(there).free


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:,.1f} MiB"
