"""An iterator that runs in a thread, one item ahead of whoever takes the items."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Makes the next item while the last one is used; items and errors come in their order.

    Use it as a context manager: leaving it waits for the item that is being made.
    """

    def __init__(self, items: Iterator[T]) -> None:
        """Begin with the first item at once."""
        self._items = items
        self._made: SimpleQueue[tuple[list[T], BaseException | None]] = SimpleQueue()
        """An item, or nothing at the end, and the error that ended it."""
        self._wanted = threading.Semaphore(1)
        """How many items may be made before one is taken."""
        self._stopped = False
        # A daemon: a second Ctrl-C ends the process whatever the thread does.
        self._thread = threading.Thread(target=self._make, name="ptv2-read-ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> ReadAhead[T]:
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped = True
        self._wanted.release()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        """The items.

        Raises:
            BaseException: what the iterator raised, after the items before it.
        """
        while True:
            items, error = self._made.get()
            if error is not None:
                raise error
            if not items:
                return
            self._wanted.release()
            yield items[0]

    def _make(self) -> None:
        try:
            while True:
                self._wanted.acquire()
                if self._stopped:
                    return
                with suppress(StopIteration):
                    self._made.put(([next(self._items)], None))
                    continue
                self._made.put(([], None))
                return
        except BaseException as error:
            self._made.put(([], error))
