"""Ctrl-C and SIGTERM: finish the step, save, leave with 128 + signal."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from ptv2_cli.errors import Interrupted, Problem


class Interrupts:
    """While active, a first signal is only noted; a second one interrupts at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        # Python allows handlers in the main thread alone; elsewhere the caller's own stay.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
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
        if self.signum is not None:
            raise KeyboardInterrupt
        self.signum = number
