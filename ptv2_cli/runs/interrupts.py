"""Ctrl-C, SIGTERM and a closed terminal: finish the step, save, leave with 128 + signal."""

from __future__ import annotations

import errno
import os
import signal
import termios
import threading
from types import FrameType, TracebackType

from ptv2_cli.errors import Interrupted, Problem, StoppedAtOnce

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While active, a first signal is only noted; a second one stops at once.

    A signal that whoever started us ignores stays ignored: `nohup` does so with SIGHUP.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        # Python allows handlers in the main thread alone; elsewhere the caller's own stay.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self, directory: str, runs: int = 1) -> None:
        """Raise Interrupted if a signal has come; what is under way there is saved."""
        if self.signum is not None:
            saved = "the run is" if runs == 1 else f"{runs} runs are"
            what = f"interrupted; {saved} saved"
            raise Interrupted(
                self.signum, Problem(directory, what, "the same command continues it")
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_closed_terminal()
        if self.signum is not None:
            raise StoppedAtOnce(number)
        self.signum = number


def _leave_closed_terminal() -> None:
    """Print to nowhere from now on, where the terminal is gone: a write to it would fail."""
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
