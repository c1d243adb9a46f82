"""How many processor threads compute, and how they wait for each other.

The count is of the process: `use_threads` sets it when a command that computes starts. Results are
equal to the last bit for equal counts alone, so a run that goes on keeps the count that it began
with (`go_on_with`).
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ptv2_cli.errors import ConfigError

MOST = 1024
"""The largest count that is taken: OpenMP ends the process where the system denies it threads."""
VARIABLE = "OMP_NUM_THREADS"
_WAITING = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
"""Variables by which users say how OpenMP's threads wait."""
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
"""What a core's time is spent on while it is not free, by psutil's names."""
_GROUPS = Path("/sys/fs/cgroup")


def wait_passively() -> None:
    """Let OpenMP's waiting threads sleep, unless the user chose or torch is imported already.

    Threads that spin take the cores that other processes need: beside a busy process two of them
    take several times the time of two that sleep. OpenMP reads the variable when it is loaded.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def cores() -> int:
    """Cores that this process may use, by its affinity."""
    return len(_allowed()) or 1


@dataclass(frozen=True)
class _Quota:
    """A limit on the processor time of this process's control group."""

    cores: float
    used: float
    """Seconds of processor time that the group has taken."""


@dataclass(frozen=True)
class _Moment:
    """The seconds that everybody has computed until a moment."""

    clock: float
    busy: float
    """On the cores that this process may use, by any process."""
    own: float
    quota: _Quota | None


_began: _Moment | None = None
"""When the command started; what others do is measured from here."""
_standing: int | None = None
"""The threads of this process where nobody says another number."""
_typed = False
"""Whether the user said the number for the command that runs."""


def begin() -> None:
    """Begin to measure what other processes do; the imports that follow take long enough."""
    global _began
    if _standing is None:
        _began = _now()


def require_count(threads: int | None, where: str) -> None:
    """Check a number of threads.

    Raises:
        ConfigError: it is no whole number, less than 1 or more than `MOST`.
    """
    if threads is None:
        return
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST:
        what = f"{threads!r} is no number of threads: a whole number from 1 to {MOST} is"
        example = f"{where} {cores()}" if where.startswith("-") else f"{where}={cores()}"
        raise ConfigError.at(where, what, f"{example} uses all cores of this process")


def use_threads(threads: int | None, processes: int = 1) -> None:
    """Let torch compute with so many threads from now on, split among processes of one command.

    None: with `OMP_NUM_THREADS`, else with as many as there are free cores, at least one and no
    more than torch takes by itself. They are counted once per process: later calls take the same.
    """
    global _standing, _typed
    import torch

    if _standing is None:
        _standing = torch.get_num_threads()
        if not os.environ.get(VARIABLE):
            _standing = max(1, min(_standing, free_cores()))
    _typed = threads is not None
    # Also where the count stays: it keeps MKL from taking fewer, which would change bits.
    torch.set_num_threads(_standing if threads is None else max(1, threads // processes))


def go_on_with(threads: int, processes: int = 1, *, alone: bool = True) -> str | None:
    """Compute with the count that a run began with, unless the user typed `--threads`.

    Args:
        threads: what the run began with, all its processes together.
        processes: how many train it now; each gets an equal part of the threads.
        alone: whether no other run of this process trains, with a count of its own.

    Returns:
        What the user should know: that the counts differ.
    """
    import torch

    threads = max(1, threads // processes)
    if alone and not _typed:
        torch.set_num_threads(threads)
    now = torch.get_num_threads()
    if now == threads:
        return None
    return (
        f"goes on with {_counted(now)}, and began with {_counted(threads)}: the results may differ "
        "in the last bits from those of a run without a break"
    )


def typed_other(threads: int) -> bool:
    """Whether the user typed another count for the command that runs."""
    import torch

    return _typed and threads != torch.get_num_threads()


@contextmanager
def count_restored() -> Iterator[None]:
    """Set the count back at the end, whatever a run goes on with meanwhile."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _counted(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def free_cores() -> int:
    """Cores that this process may use and that others have left free since `begin`; at least 1."""
    now, count = _now(), float(cores())
    if now is None:
        return cores()
    seconds = 0.0 if _began is None else now.clock - _began.clock
    if _began is not None and seconds > 0:
        count -= max(0.0, now.busy - _began.busy - (now.own - _began.own)) / seconds
    if now.quota is not None:
        left = now.quota.cores
        if _began is not None and _began.quota is not None and seconds > 0:
            group = now.quota.used - _began.quota.used
            left -= max(0.0, group - (now.own - _began.own)) / seconds
        count = min(count, left)
    return max(1, math.floor(count + 0.5))


def _now() -> _Moment | None:
    """What has been computed so far; None where the system does not tell."""
    import psutil

    try:
        times = psutil.cpu_times(percpu=True)
    except (OSError, RuntimeError, NotImplementedError, psutil.Error):
        return None
    allowed = _allowed() or set(range(len(times)))
    used = (times[core] for core in allowed if core < len(times))
    busy = sum(getattr(core, name, 0.0) for core in used for name in _BUSY)
    return _Moment(time.perf_counter(), busy, time.process_time(), _quota())


def _allowed() -> set[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))  # macOS pins no process to cores


def _quota() -> _Quota | None:
    """The tightest limit on the process's control group and those above it (Linux)."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return _quota_of(lines)


def _quota_of(lines: list[str]) -> _Quota | None:
    """The same, from the lines `ID:CONTROLLERS:PATH` of the groups."""
    limits: list[_Quota] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for folder in _folders(path):
            limit = None
            if not controllers:
                limit = _second_version(_GROUPS / folder)
            elif "cpu" in controllers.split(","):
                limit = _first_version(_GROUPS / "cpu" / folder)
            limits += [] if limit is None else [limit]
    return min(limits, key=lambda limit: limit.cores, default=None)


def _folders(path: str) -> list[str]:
    """The folder of a control group and those above it; a container may see only the last."""
    parts = [part for part in path.split("/") if part and part != ".."]
    return ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]


def _second_version(group: Path) -> _Quota | None:
    try:
        most, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        if most == "max":
            return None
        fields = dict(
            line.split() for line in (group / "cpu.stat").read_text(encoding="utf-8").splitlines()
        )
        return _Quota(int(most) / int(period), int(fields["usage_usec"]) / 1e6)
    except (OSError, ValueError, KeyError, ZeroDivisionError):
        return None


def _first_version(group: Path) -> _Quota | None:
    try:
        most = int((group / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((group / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        used = int((group / "cpuacct.usage").read_text(encoding="utf-8"))
        return _Quota(most / period, used / 1e9) if most > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
