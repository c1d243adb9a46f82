"""What computes: devices, threads and cores, bf16."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ptv2_cli.setup.findings import Finding

CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")


def imported() -> Finding:
    """Whether torch can be imported: a package may be there and its libraries not."""
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        mend = "pip install --force-reinstall torch"
        return Finding("torch import", "missing", f"fails: {reason}", mend)
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    return Finding("torch import", "ok", build)


def device() -> Finding:
    """The device that `--device auto` takes."""
    import torch

    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(at) for at in range(torch.cuda.device_count())]
        named = ", ".join(
            f"cuda:{at} {card.name} {card.total_memory / 2**30:.0f} GiB"
            for at, card in enumerate(cards)
        )
        return Finding("device", "ok", named)
    if shutil.which("nvidia-smi"):
        return Finding(
            "device",
            "warning",
            "cpu: an NVIDIA driver is here, but torch sees no GPU",
            "nvidia-smi shows the driver; pip install a torch that is built for its CUDA version",
        )
    return Finding("device", "ok", "cpu (no GPU here)")


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def threads() -> Finding:
    """Threads that torch computes with, against the cores there are."""
    import torch

    used, there = torch.get_num_threads(), cores()
    asked = os.environ.get("OMP_NUM_THREADS")
    value = f"{used} thread{'s' if used > 1 else ''} on {there} core{'s' if there > 1 else ''}"
    value += f" (OMP_NUM_THREADS={asked})" if asked else ""
    if used > there:
        return Finding("threads", "warning", value, f"export OMP_NUM_THREADS={there}")
    return Finding("threads", "ok", value)


def bf16() -> Finding:
    """Whether `train.precision: bf16` has hardware behind it."""
    import torch

    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Finding("bf16", "ok", "in hardware")
        value = "emulated on this GPU, slower than fp32"
        return Finding("bf16", "warning", value, "--set train.precision=fp16")
    flags = cpu_flags()
    found = next((flag for flag in _BF16_FLAGS if flag in flags), None)
    if found:
        return Finding("bf16", "ok", f"in hardware ({found})")
    return Finding("bf16", "ok", "works, emulated: it may be no faster than fp32 on this CPU")


def cpu_flags() -> set[str]:
    """The instruction sets that the system names; empty where it names none."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    found = (line for line in lines if line.lower().startswith(("flags", "features")))
    return set(next(found, "").partition(":")[2].split())
