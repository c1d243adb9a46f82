"""What `--devices N` starts: its environment, its signals, and how it ends when a process fails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from ptv2_cli.distributed import launch as module
from ptv2_cli.distributed.launch import launch
from ptv2_cli.distributed.rank import Rank, rank_of_process
from ptv2_cli.errors import EXIT_RANK_ENDED, MachineError

WAITS = "import time; time.sleep(60)"
SAVES = """
import signal, sys, time
def save(number, frame):
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Gives the launcher these programs as its ranks; returns the list of those it starts."""
    monkeypatch.setattr(module, "GRACE", 0.3)

    def put(*programs: str) -> list[Any]:
        started: list[Any] = []

        def start(words: Sequence[str], environment: Mapping[str, str]) -> Any:
            program = programs[int(environment["RANK"])]
            command = [sys.executable, "-S", "-c", program]
            started.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            )
            return started[-1]

        monkeypatch.setattr(module, "_start", start)
        return started

    return put


def signals_when_ready(started: list[Any], *numbers: int) -> threading.Thread:
    """Signals this process, in which the launcher runs, once the ranks have printed a line."""

    def send() -> None:
        while len(started) < 2:
            time.sleep(0.01)
        for process in started:
            process.stdout.readline()
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.3)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_the_processes_are_ranks_of_this_machine() -> None:
    variables = module._variables(3)
    whole = {**variables, "RANK": "2", "LOCAL_RANK": "2"}
    assert rank_of_process(whole) == Rank(number=2, size=3, local=2, local_size=3)


def test_a_port_that_no_connection_of_the_system_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    port = module.free_port()
    assert 20000 <= port < 32768
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        drawn = iter([port, port, module.free_port()])
        monkeypatch.setattr(module.secrets, "choice", lambda ports: next(drawn))
        assert module.free_port() != port


def test_threads_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert module._variables(2)["OMP_NUM_THREADS"] == "3"
    assert module._variables(8)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in module._variables(2)


def test_all_done(processes: Any) -> None:
    processes("", "")
    assert launch([], 2) == 0


def test_a_failure_ends_the_others_with_its_exit_code(processes: Any) -> None:
    ended = f"import sys, time; time.sleep(0.2); sys.exit({EXIT_RANK_ENDED})"
    started = processes(WAITS, "import sys; sys.exit(1)", ended)
    began = time.monotonic()
    assert launch([], 3) == 1
    assert time.monotonic() - began < 30
    assert [process.returncode for process in started] == [-9, 1, EXIT_RANK_ENDED]


def test_rank_0_has_time_to_say_what_another_process_has_found(processes: Any) -> None:
    first = "import sys, time; time.sleep(1.5); sys.exit(2)"  # the grace is a third of a second
    started = processes(first, "import sys; sys.exit(2)")
    assert launch([], 2) == 2
    assert [process.returncode for process in started] == [2, 2]


def test_a_killed_process_is_named(processes: Any) -> None:
    processes(WAITS, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(MachineError, match="rank 1: was killed by SIGKILL") as caught:
        launch([], 2)
    assert "the same command continues the run" in str(caught.value)


def test_lost_connections_without_a_failed_process(processes: Any) -> None:
    lost = f"import sys; sys.exit({EXIT_RANK_ENDED})"
    processes(lost, lost)
    with pytest.raises(MachineError, match="lost one another"):
        launch([], 2)


def test_a_signal_reaches_all(processes: Any) -> None:
    started = processes(SAVES, SAVES)
    before = signal.getsignal(signal.SIGTERM)
    thread = signals_when_ready(started, signal.SIGTERM)
    assert launch([], 2) == 128 + signal.SIGTERM
    thread.join()
    assert [process.returncode for process in started] == [143, 143]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_ends_what_does_not_end(processes: Any) -> None:
    stubborn = SAVES.replace("sys.exit(128 + number)", "pass").replace("60)", "30); time.sleep(30)")
    started = processes(SAVES, stubborn)
    thread = signals_when_ready(started, signal.SIGTERM, signal.SIGTERM)
    assert launch([], 2) == 128 + signal.SIGTERM
    thread.join()
    assert [process.returncode for process in started] == [143, -9]


def test_a_launched_process_stops_when_its_launcher_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, write = os.pipe()
    saved = os.dup(0)
    os.dup2(read, 0)
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    try:
        monkeypatch.setenv(module.LAUNCHED, "1")
        module.watch_launcher()
        assert not stopped.wait(0.1)
        os.close(write)
        assert stopped.wait(10)
    finally:
        signal.signal(signal.SIGTERM, before)
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)
