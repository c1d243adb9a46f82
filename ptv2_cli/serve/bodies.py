"""Bodies of requests: read up to a limit of bytes and seconds, and never further."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ptv2_cli.serve.limits import Limits
from ptv2_cli.serve.refusal import Refusal


@dataclass
class BodiesUnderWay:
    """The bytes of all bodies that are being read: clients that are slow must not fill memory."""

    size: int = 0


async def read_body(request: Request, limits: Limits, under_way: BodiesUnderWay) -> bytes:
    """The body of a request.

    Raises:
        Refusal: 413, it has more bytes than the limit: of a length that its header says, nothing
            is read, of others no more than the limit; 408, it does not come in time; 503, the
            bodies that are being read have together more bytes than `Limits.max_bodies`.
        ClientDisconnect: the client has gone.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.max_body:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.client_timeout):
            async for part in request.stream():
                body += part
                under_way.size += len(part)
                if len(body) > limits.max_body:
                    raise _too_large(limits)
                if under_way.size > limits.max_bodies:
                    what, hint = "reads too many bodies at once", "try again in 1 s"
                    raise Refusal.of(503, "the server", what, hint, Retry_After="1")
    except TimeoutError:
        what = f"did not arrive in {limits.client_timeout:g} s"
        raise Refusal.of(408, "the body", what, "send it at once") from None
    finally:
        under_way.size -= len(body)
    return bytes(body)


def _too_large(limits: Limits) -> Refusal:
    what = f"has more than {limits.max_body:,} bytes"
    hint = "send fewer rows at once; ptv2 serve --max-body N sets the limit"
    return Refusal.of(413, "the body", what, hint)


async def gone(request: Request) -> None:
    """Return when the client, whose body has been read, closes its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class UnreadBodies:
    """Closes the connection after an answer to a request whose body was not read to its end.

    The answer goes out at once. Then the rest of the body is discarded for a few seconds: a
    connection that is closed with unread bytes is reset, and the client would not see the answer.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        """Wrap an application."""
        self._app, self._seconds = app, limits.linger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        unread = _has_body(scope)

        async def reading() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message.get("more_body", False)
            return message

        async def discard() -> None:
            while unread:
                await reading()

        async def answering(message: Message) -> None:
            if unread and message["type"] == "http.response.start":
                headers = [*message["headers"], (b"connection", b"close")]
                message = {**message, "headers": headers}
            elif unread and not message.get("more_body", False):
                await send({**message, "more_body": True})
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds):
                        await discard()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._app(scope, reading, answering)


def _has_body(scope: Scope) -> bool:
    """Whether the headers announce a body."""
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
