"""Ctrl-C, SIGTERM and a closed terminal: finish the step, save, exit with 128 + signal."""

from __future__ import annotations

import errno
import os
import signal
import threading
from types import FrameType

from ptv2_cli.errors import Interrupted, Problem, StoppedAtOnce

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # Windows has no SIGHUP, and alone SIGBREAK
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Interrupts:
    """While active, a first signal is only noted; a second one stops at once.

    A signal that is ignored stays ignored: `nohup` starts programs so that they ignore SIGHUP.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        # Python allows handlers in the main thread only; in another the caller's handlers stay.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self, directory: str, runs: int = 1, signum: int | None = None) -> None:
        """Raise Interrupted if a signal has come.

        Args:
            directory: the folder of the run, or of the runs, that are saved.
            runs: how many they are.
            signum: a signal that came to another process of the run; None: look at this one's.
        """
        signum = signum or self.signum
        if signum is not None:
            saved = "the run is" if runs == 1 else f"{runs} runs are"
            what = f"interrupted; {saved} saved"
            raise Interrupted(signum, Problem(directory, what, "the same command continues it"))

    def _note(self, number: int, frame: FrameType | None) -> None:
        _leave_closed_terminal()
        if self.signum is not None:
            raise StoppedAtOnce(number)
        self.signum = number


def _leave_closed_terminal() -> None:
    """Discard what is printed from now on if the terminal is gone: a write to it would fail."""
    try:
        import termios
    except ImportError:  # Windows
        return
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
