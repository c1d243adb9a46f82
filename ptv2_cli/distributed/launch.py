"""`ptv2 train --devices N`: the same command in N processes of this machine, like torchrun."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ptv2_cli.distributed.rank import LAUNCHED
from ptv2_cli.errors import EXIT_INPUT, EXIT_RANK_ENDED, MachineError, Problem
from ptv2_cli.threads import VARIABLE, free_cores

GRACE = 10.0
"""Seconds that the other processes have to end after one of them has failed."""
SAME_GRACE = 60.0
"""Seconds that rank 0 has to say what is wrong with the input, if another process has found it."""
POLL = 0.05
"""Seconds between two looks at the processes."""
_PORTS = range(20000, 32768)
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


def launch(words: Sequence[str], devices: int) -> int:
    """Run `ptv2 WORDS` in so many processes, the ranks of one run; returns its exit code.

    Signals are passed on to all of them. When one fails, the others are ended.

    Raises:
        MachineError: a process was killed, or the processes have lost one another.
    """
    variables = _variables(devices)
    processes: list[subprocess.Popen[bytes]] = []
    with _signals_noted() as noted:
        try:
            for rank in range(devices):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                processes.append(_start(words, {**os.environ, **variables, **own}))
            ended, sent = _wait(processes, noted)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
    return _outcome(ended, sent)


def free_port() -> int:
    """A port of this machine that nobody listens on.

    It is below those that systems give to outgoing connections: one of these could take it before
    rank 0, which imports torch first, listens on it.
    """
    with socket.socket() as probe:
        for _ in range(100):
            with suppress(OSError):
                probe.bind(("127.0.0.1", secrets.choice(_PORTS)))
                break
        else:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def watch_launcher() -> None:
    """In a launched process: save and stop, as after SIGTERM, if the launcher is killed."""
    if os.environ.get(LAUNCHED):
        threading.Thread(target=_watch, name="ptv2-launcher", daemon=True).start()


def _watch() -> None:
    os.read(0, 1)  # returns when the launcher's end of the pipe is closed
    os.kill(os.getpid(), signal.SIGTERM)


def _variables(devices: int) -> dict[str, str]:
    """What all processes find in their environment; see `rank_of_process`."""
    variables = {
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        LAUNCHED: "1",
    }
    if VARIABLE not in os.environ:
        variables[VARIABLE] = str(max(1, free_cores() // devices))
    if sys.platform == "linux":  # gloo would look the machine's own name up, which may fail
        variables["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return variables


def _start(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # A process group of its own: Ctrl-C in a terminal comes from here, once.
    group: dict[str, Any] = {} if sys.platform == "win32" else {"process_group": 0}
    command = [sys.executable, "-m", "ptv2_cli", *words]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, **group)


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """The signals that come, in their order, instead of their effects."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {
        number: signal.signal(number, note)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(
    processes: Sequence[subprocess.Popen[bytes]], noted: list[int]
) -> tuple[dict[int, int], int]:
    """Wait until all have ended, or some seconds after one has failed.

    Returns:
        Rank -> exit code, in the order in which they ended, and the last signal passed on, or 0.
    """
    ended: dict[int, int] = {}
    deadline, sent = float("inf"), 0
    while len(ended) < len(processes) and time.monotonic() < deadline:
        for rank, process in enumerate(processes):
            code = process.poll()
            if rank in ended or code is None:
                continue
            ended[rank] = code
            if code not in (0, 128 + sent):
                grace = SAME_GRACE if code == EXIT_INPUT and rank else GRACE
                deadline = min(deadline, time.monotonic() + grace)
        while noted:
            if sent:  # a second signal: stop at once
                deadline = min(deadline, time.monotonic() + GRACE)
            sent = noted.pop(0)
            for process in processes:
                if process.poll() is None:
                    process.send_signal(sent)
        time.sleep(POLL)
    return ended, sent


def _outcome(ended: Mapping[int, int], sent: int) -> int:
    """The exit code of the command; the process that failed has printed why, unless it was killed.

    Args:
        ended: rank -> exit code, of those that ended by themselves.
        sent: the last signal that was passed on to them, or 0.
    """
    again = "the same command continues the run from its last save"
    failed = [(rank, code) for rank, code in ended.items() if code not in (0, EXIT_RANK_ENDED)]
    if not failed and any(ended.values()):
        raise MachineError(Problem("", "the processes of the run have lost one another", again))
    if not failed:
        return 0
    rank, code = failed[0]
    if code >= 0:
        return code
    if sent == -code:  # before it could save: nothing was trained yet
        return 128 + sent
    name = signal.Signals(-code).name
    memory = "; the system kills processes when memory gives out" if name == "SIGKILL" else ""
    raise MachineError(Problem(f"rank {rank}", f"was killed by {name}", f"{again}{memory}"))
