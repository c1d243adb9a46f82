"""Where a run trains: the device, and what metrics.json says of versions, command, git and host."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.config.schema import RunConfig
from ptv2_cli.distributed.rank import Rank
from ptv2_cli.errors import ConfigError
from ptv2_cli.version import __version__

PACKAGES = (
    *("torch", "transformers", "datasets", "evaluate", "seqeval", "tokenizers", "numpy"),
    "torchao",
)
"""Packages whose versions are recorded."""
GIT_SECONDS = 5.0
"""Seconds to wait for each answer of git; a large repository on a slow disk may need more."""
_GIT = (
    *("git", "--no-optional-locks"),
    # Neither answer may run a program that the repository's own settings name.
    *("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"),
)


def choose_device(name: str, rank: Rank | None = None) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` names.

    Of several processes each has the GPU of its number on the machine, which becomes its current
    one.

    Raises:
        ConfigError: no such device on this machine, or fewer GPUs than processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError.at("--device", f"{name!r} is no device", "auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError.at(
            "--device",
            f"{name} is not on this machine: torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices",
            "--device cpu",
        )
    if device.type == "cuda" and rank is not None:
        device = _own_gpu(device, rank)
    return device


def _own_gpu(device: torch.device, rank: Rank) -> torch.device:
    """The GPU of one of several processes."""
    count = torch.cuda.device_count()
    if device.index is not None:
        what = f"{device} is one GPU, and {rank.size} processes train"
        raise ConfigError.at("--device", what, "--device cuda, or --devices 1")
    if rank.local_size > count:
        what = f"{rank.local_size} GPUs are not on this machine: torch sees {count}"
        raise ConfigError.at("--devices", what, f"--devices {count}, or --device cpu")
    own = torch.device("cuda", rank.local)
    torch.cuda.set_device(own)
    return own


def environment(device: torch.device, config: RunConfig, devices: int = 1) -> dict[str, Any]:
    """Versions, device, threads of each process, and how the run computed."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "ptv2": __version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "platform": sys.platform,
        "device": device.type,
        "device_name": name,
        "devices": devices,
        "dtype": computed_in(config),
        "compile": config.train.compile,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }


def computed_in(config: RunConfig) -> str:
    """The type of the backbone's activations: autocast's, else that of its weights."""
    precision = config.train.precision
    return config.backbone.dtype if precision == "fp32" else precision


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def now() -> str:
    """The local time with its zone, ISO 8601, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def provenance(started: str | None) -> dict[str, Any]:
    """`provenance` of metrics.json, for a run that ends now and first started at `started`."""
    return {
        "command": command_line(),
        "git": git_state(),
        "host": _printable(platform.node()) or None,
        "started": started,
        "ended": now(),
    }


def command_line() -> str | None:
    """What the user typed, quoted for a shell: `ptv2 ...`, or `SCRIPT ...` for a Python program.

    None without a command or a script, as in a notebook.
    """
    program, *arguments = sys.argv or [""]
    if program in {"", "-c", "-m"}:
        return None
    path = Path(program)
    ours = path.stem == "ptv2" or path.parts[-2:] == ("ptv2_cli", "__main__.py")
    return _printable(shlex.join(["ptv2" if ours else program, *arguments]))


@cache
def git_state() -> dict[str, Any] | None:
    """`commit` of the working folder's repository, and whether tracked files differ (`dirty`).

    None without git, without a repository or before its first commit; `dirty` is None where git
    did not answer in time. Read once per process: a long run keeps the state it began with.
    """
    commit = _git("rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    """What git answers, None where it cannot."""
    try:
        done = subprocess.run(
            [*_GIT, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _printable(text: str) -> str:
    """The text without bytes that are not UTF-8, which JSON cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
