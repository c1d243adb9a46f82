"""The memory that this process uses: what it gives back, its peak, and bytes in words."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch


def free(device: torch.device) -> None:
    """Return the memory of objects that have ended to the device and to the system."""
    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """Return freed memory to the system, where the C library keeps it and can give it back."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if give_back is not None:
        give_back(0)


def peak_bytes(device: torch.device) -> int:
    """Most memory since `forget_peak`: the allocator's on CUDA, the resident set elsewhere.

    On systems other than Linux the resident set's peak is that of the whole process.
    """
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # psutil knows the peak on Windows alone, and Windows has no such module

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak(device: torch.device) -> None:
    """Let `peak_bytes` begin anew, where the system can do that."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with suppress(OSError):  # a sandbox may keep /proc to itself
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def in_words(size: float) -> str:
    """Bytes for people: 18 GiB, 1.7 GiB, 40 MiB."""
    if size < 2**30:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / 2**30:.{1 if size < 10 * 2**30 else 0}f} GiB"
