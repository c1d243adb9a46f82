"""The runs in a folder: how far each is, how old, how large, and which are copies."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ptv2_cli.errors import RunError
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.lock import in_use

State = Literal["finished", "diverged", "interrupted", "training", "damaged"]
_NAMED = re.compile(r".*-([0-9a-f]{8})")


@dataclass(frozen=True)
class Kept:
    """A run in a folder of runs."""

    run: RunDirectory
    state: State
    """damaged: its metrics.json cannot be read; training: a process writes it now."""
    score: str
    """`accuracy 71.2` on the split that chose the epoch; empty without a score."""
    fingerprint: str
    """Empty if neither metrics.json nor the name has it."""
    changed: float
    """When a file of it last changed, in seconds since the epoch."""
    size: int
    """Bytes on the disk."""


def runs_in(folder: Path) -> list[Kept]:
    """The runs directly in a folder, the newest first; links are not followed.

    Raises:
        RunError: there is no such folder, or it is a run itself.
    """
    if not folder.is_dir():
        raise RunError.at(str(folder), "there is no such folder", "ptv2 train makes runs/")
    if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
        hint = f"name the folder that holds it: {folder.parent}"
        raise RunError.at(str(folder), "is a run, not a folder of runs", hint)
    return sorted(_read(folder), key=lambda kept: kept.changed, reverse=True)


def interrupted(folder: Path) -> list[Kept]:
    """The runs in a folder that can be continued, the newest first; none if it is missing."""
    found = _read(folder, unfinished=True) if folder.is_dir() else ()
    left = [kept for kept in found if kept.state == "interrupted"]
    return sorted(left, key=lambda kept: kept.changed, reverse=True)


def copies(found: list[Kept]) -> dict[Path, Path]:
    """Finished runs that are copies of another: path -> path of the run that is kept.

    Runs of one fingerprint are one run, of which the first by name is kept: the one that `ptv2
    train` finds.
    """
    first: dict[str, Path] = {}
    double: dict[Path, Path] = {}
    for kept in sorted(found, key=lambda kept: kept.run.path):
        if kept.state not in {"finished", "diverged"} or not kept.fingerprint:
            continue
        if kept.fingerprint in first:
            double[kept.run.path] = first[kept.fingerprint]
        else:
            first[kept.fingerprint] = kept.run.path
    return double


def _read(folder: Path, *, unfinished: bool = False) -> Iterator[Kept]:
    """The runs of a folder, or only those that have not finished."""
    for path in sorted(folder.iterdir()):
        run = RunDirectory(path)
        if path.is_symlink() or not path.is_dir() or not run.config.is_file():
            continue
        if not (run.finished or run.history.is_file()):  # somebody's folder with a config.yaml
            continue
        if unfinished and run.finished:
            continue
        state, score, fingerprint = _told(run)
        changed, size = _measured(path)
        yield Kept(run, state, score, fingerprint, changed, size)


def _told(run: RunDirectory) -> tuple[State, str, str]:
    """State, score and fingerprint of a run."""
    named = _NAMED.fullmatch(run.path.name)
    mark = named[1] if named else ""
    if in_use(run.path):
        return "training", "", mark
    if not run.finished:
        return "interrupted", "", mark
    try:
        metrics = run.read_metrics()
        chosen = metrics["selection"]
        value = chosen["value"]
        score = "" if value is None else f"{chosen['metric']} {100 * value:.1f}"
        state: State = "diverged" if metrics["status"] == "diverged" else "finished"
        return state, score, str(metrics.get("fingerprint") or mark)
    except (RunError, KeyError, TypeError, ValueError):
        return "damaged", "", mark


def _measured(folder: Path) -> tuple[float, int]:
    """When a file in it last changed, and its size in bytes; links are not followed."""
    changed, size = folder.lstat().st_mtime, 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                status = (Path(root) / name).lstat()
            except OSError:  # a run that trains renames its files
                continue
            changed = max(changed, status.st_mtime) if stat.S_ISREG(status.st_mode) else changed
            # Windows does not say how many blocks a file takes.
            size += getattr(status, "st_blocks", 0) * 512 or status.st_size
    return changed, size
