"""Where weights, data and runs lie: cache folders, the network setting, free space."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ptv2_cli.backbones.locate import is_offline
from ptv2_cli.setup.findings import Finding

SCARCE = 5 * 2**30
"""Bytes: a large backbone with its downloads."""
LEAST = 200 * 2**20
"""Bytes: a run's checkpoints."""


def caches() -> Iterator[Finding]:
    """The folders in which downloads are kept."""
    from huggingface_hub import constants

    yield _cache("HF_HOME", Path(constants.HF_HOME))
    yield _cache("hub cache", Path(constants.HF_HUB_CACHE))


def _cache(name: str, folder: Path) -> Finding:
    there = folder.is_dir()
    size = f"{gigabytes(folder_bytes(folder))}, " if there else "not made yet, "
    if os.access(_nearest(folder), os.W_OK):
        return Finding(name, "ok", f"{folder}: {size}writable")
    value = f"{folder}: {size}not writable: nothing new can be fetched"
    return Finding(name, "warning", value, "export HF_HOME=A_FOLDER_YOU_MAY_WRITE")


def offline() -> Finding:
    """Whether the network may be used."""
    if is_offline(False):
        value = f"HF_HUB_OFFLINE={os.environ['HF_HUB_OFFLINE']}: the network is never touched"
        return Finding("network", "ok", value)
    return Finding("network", "ok", "used for what is not in the caches (--offline forbids it)")


def disk() -> Finding:
    """Free space and permission where `runs/` would be made."""
    folder = _nearest(Path.cwd() / "runs")
    free = shutil.disk_usage(folder).free
    value = f"{folder}: {gigabytes(free)} free"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "warning", f"{value}, not writable", "ptv2 train --output DIR")
    if free < LEAST:
        return Finding("disk", "missing", value, "free some space, or ptv2 train --output DIR")
    if free < SCARCE:
        return Finding("disk", "warning", value, "free some space before a large backbone comes")
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
