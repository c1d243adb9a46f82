"""A thread for calls that may fail or hang, which nobody waits for longer than a limit."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

LIMIT = 60.0
"""Seconds that one call may take, and that the end of a run waits for all that are left."""


class Worker:
    """Runs calls one after another in a thread; after one has failed or hung it runs no others."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._began: float | None = None
        """When the call under way began."""
        self.failed = False
        """Whether an error was raised to the caller."""
        # A daemon: a call that hangs does not keep the program from ending.
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], Any]) -> None:
        """Queue a call."""
        self._calls.put(call)

    def call(self, call: Callable[[], Any]) -> None:
        """Run a call, and wait for it.

        Raises:
            Exception: its own; TimeoutError: it has not returned after `LIMIT` seconds.
        """
        done = threading.Event()
        self.put(call)
        self.put(done.set)
        self._wait(done.wait, done.is_set)

    def check(self) -> None:
        """Raise what has gone wrong since the last look.

        Raises:
            Exception: of a call; TimeoutError: one has not returned after `LIMIT` seconds.
        """
        if self.failed:
            return
        began = self._began
        error = self._error
        if error is None and began is not None and time.monotonic() - began > LIMIT:
            error = TimeoutError(f"{self._name} has not answered for {LIMIT:g} seconds")
        if error is not None:
            self.failed = True
            self._calls.put(None)
            raise error if isinstance(error, Exception) else RuntimeError(repr(error))

    def close(self, last: Callable[[], Any]) -> None:
        """Run what is queued and a last call, and end the thread.

        Raises:
            Exception: of a call; TimeoutError: they have not ended after `LIMIT` seconds.
        """
        self.put(last)
        self._calls.put(None)
        self._wait(self._thread.join, lambda: not self._thread.is_alive())

    def _wait(self, wait: Callable[[float], Any], done: Callable[[], bool]) -> None:
        until = time.monotonic() + LIMIT
        while not done() and self._error is None and (left := until - time.monotonic()) > 0:
            wait(min(left, 0.2))  # in short steps: an error ends the waiting at once
        if not done() and self._error is None:
            self._error = TimeoutError(f"{self._name} has not answered for {LIMIT:g} seconds")
        self.check()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._began = time.monotonic()
            try:
                call()
            except BaseException as error:  # also SystemExit: the run goes on
                self._error = error
                return
            finally:
                self._began = None
