"""Connections of clients that are too slow are closed."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedConnection(H11Protocol):
    """A connection whose client must send its headers, and read its answer, in time.

    uvicorn itself has a time for connections between two requests alone: a client that sends a
    byte of its headers now and then would keep a connection for ever.
    """

    seconds = 10.0
    """For the headers, and for reading an answer; see `Limits.client_timeout`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._headers_due: asyncio.TimerHandle | None = None
        self._answer_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._headers_due = self.loop.call_later(self.seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the headers, or no more if they are complete."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting_for_headers()
        elif self._headers_due is None:
            self._headers_due = self.loop.call_later(self.seconds, self.transport.abort)

    def on_response_complete(self) -> None:
        """Wait until the answer is read."""
        self._stop_waiting_for_headers()
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._wait_for_reader()

    def pause_writing(self) -> None:
        """Wait until the client reads."""
        super().pause_writing()
        self._wait_for_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        self._stop_waiting_for_headers()
        if self._answer_due is not None:
            self._answer_due.cancel()
        super().connection_lost(exc)

    def _stop_waiting_for_headers(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _wait_for_reader(self) -> None:
        if self._answer_due is None:
            self._answer_due = self.loop.call_later(self.seconds, self._close_unread)

    def _close_unread(self) -> None:
        self._answer_due = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()
