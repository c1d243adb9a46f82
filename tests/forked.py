"""Commands in processes of their own that need not import torch again.

A new interpreter spends five seconds on importing torch and transformers. A server process does
that once for each worker of pytest, and every command runs in a fork of it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

MAIN = "from ptv2_cli.cli.app import main; main()"
_CONTEXT: Any = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "ptv2_cli.cli.app",
        "ptv2_cli.runs.trainer",
        "ptv2_cli.scoring.evaluate_metrics",
        "ptv2_cli.sweeps.engines.local",
        "transformers.models.auto.modeling_auto",
        "transformers.models.bert.modeling_bert",
        "transformers.models.bert.tokenization_bert",
        "safetensors.torch",
    ]
)


class Command:
    """A process with pipes as its standard streams; used as `subprocess.Popen` is."""

    def __init__(self, code: str, words: tuple[str, ...]) -> None:
        theirs_in, ours_in = _CONTEXT.Pipe(duplex=False)
        ours_out, theirs_out = _CONTEXT.Pipe(duplex=False)
        ours_err, theirs_err = _CONTEXT.Pipe(duplex=False)
        streams = (theirs_in, theirs_out, theirs_err)
        arguments = (code, words, str(Path.cwd()), dict(os.environ), *streams)
        self._process = _CONTEXT.Process(target=_execute, args=arguments)
        with _server_environment():
            self._process.start()
        for stream in streams:
            stream.close()
        self.stdin = os.fdopen(os.dup(ours_in.fileno()), "w")
        self.stdout = os.fdopen(os.dup(ours_out.fileno()))
        self.stderr = os.fdopen(os.dup(ours_err.fileno()))
        for stream in (ours_in, ours_out, ours_err):
            stream.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        pid: int = self._process.pid
        return pid

    @property
    def returncode(self) -> int | None:
        """How it ended: its exit code, minus the signal that killed it, or None."""
        code: int | None = self._process.exitcode
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._process.join()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 300.0) -> tuple[str, str]:
        """Wait for its end; the rest of its output, all of which must fit into a pipe."""
        self.stdin.close()
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired("ptv2", timeout)
        with self.stdout, self.stderr:
            return self.stdout.read(), self.stderr.read()


def begin(*words: str, code: str = MAIN) -> Command:
    """Start a command: `begin("train", "config.yaml")`, or other code with these arguments."""
    return Command(code, words)


def finish(*words: str, code: str = MAIN) -> subprocess.CompletedProcess[str]:
    """Start a command and wait for its end."""
    process = begin(*words, code=code)
    out, err = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def _execute(
    code: str,
    words: tuple[str, ...],
    folder: str,
    environment: dict[str, str],
    *streams: Connection,
) -> None:
    """What the forked process does: takes its streams, then runs the code as a program."""
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    # A job in the background of a script is born deaf to Ctrl-C; this one must hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ptv2", *words]
    exec(code, {"__name__": "__main__"})


@contextmanager
def _server_environment() -> Iterator[None]:
    """For the start of the server: 80 columns, our import path; and no import of pytest's main."""
    before, main = dict(os.environ), sys.modules["__main__"]
    os.environ.update(COLUMNS="80", PYTHONPATH=os.pathsep.join(sys.path))
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        os.environ.clear()
        os.environ.update(before)
