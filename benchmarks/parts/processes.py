"""Commands as processes, several at a time, and the memory that they take together (Linux)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

SAMPLE_SECONDS = 0.1
"""Time between two looks at the processes."""


def carry_out(
    commands: Sequence[Sequence[str]], at_once: int, environment: Mapping[str, str], folder: Path
) -> tuple[float, int]:
    """Run all commands in a folder, in order, `at_once` at a time; exits if one fails.

    Returns:
        Seconds until the last has ended, and the most bytes that were resident at one time:
        anonymous pages of all processes, and file pages of the process that has most of them,
        since processes of one program map the same files.
    """
    waiting, peak = list(commands), 0
    running: list[subprocess.Popen[str]] = []
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as told:
        while waiting or running:
            while waiting and len(running) < at_once:
                command = waiting.pop(0)
                running.append(
                    subprocess.Popen(
                        command, cwd=folder, env=environment, stdout=told, stderr=told, text=True
                    )
                )
            time.sleep(SAMPLE_SECONDS)
            peak = max(peak, resident([process.pid for process in running]))
            for process in [process for process in running if process.poll() is not None]:
                running.remove(process)
                if process.returncode:
                    told.seek(0)
                    for other in running:
                        other.terminate()
                    sys.exit(f"{process.args!r}:\n{told.read()[-4000:]}")
    return time.perf_counter() - began, peak


def resident(roots: Sequence[int]) -> int:
    """Bytes that processes and their children hold at this moment."""
    own, files = 0, 0
    for pid in {pid for root in roots for pid in _family(root)}:
        sizes = _sizes(pid)
        own += sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0)
        files = max(files, sizes.get("RssFile", 0))
    return own + files


def _family(pid: int) -> Iterator[int]:
    """A process and all below it; those that have just ended are left out."""
    yield pid
    children: list[str] = []
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            children += path.read_text().split()
    for child in children:
        yield from _family(int(child))


def _sizes(pid: int) -> dict[str, int]:
    """The resident sizes of a process in bytes, by the kernel's names; empty if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.split(":", 1) for line in lines if line.startswith("Rss")]
    return {name: 1024 * int(value.split()[0]) for name, value in pairs}
