"""How the tasks on a cluster talk to the driver: an actor queues their messages.

This file imports nothing of ptv2, so that the actor's process starts quickly: it passes messages on
as bytes and never reads them.
"""

from __future__ import annotations

import asyncio
from typing import Any

Posted = tuple[int | None, bytes, Any]
"""A message: the number under which its sender waits for an answer or None, the pickled content,
and the object references beside it, which only Ray may pickle."""


class Board:
    """The actor. Its methods take turns in one thread, so nothing needs a lock."""

    def __init__(self) -> None:
        self._posted: list[Posted] = []
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._news = asyncio.Event()

    async def tell(self, content: bytes) -> None:
        """Post a message that nobody answers."""
        self._post(None, content, None)

    async def ask(self, content: bytes, references: Any) -> Any:
        """Post a message and wait until the driver has answered it."""
        self._count += 1
        number = self._count
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._post(number, content, references)
        try:
            return await future
        finally:
            del self._waiting[number]

    async def take(self, seconds: float) -> list[Posted]:
        """The driver's call: all messages, after waiting so long for the first one at most."""
        if not self._posted:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), seconds)
            except TimeoutError:
                return []
        posted, self._posted = self._posted, []
        return posted

    async def answer(self, number: int, value: Any) -> None:
        """The driver's answer to a message; the task that asked may have died."""
        future = self._waiting.get(number)
        if future is not None and not future.done():
            future.set_result(value)

    def _post(self, number: int | None, content: bytes, references: Any) -> None:
        self._posted.append((number, content, references))
        self._news.set()
