"""Connections of clients that do not read their answers end; others do not."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from ptv2_cli.serve.connections import TimedConnection

SIZE = 40_000_000
"""Bytes of an answer: more than the system keeps for a client that does not read."""


async def answering(scope: Any, receive: Any, send: Any) -> None:
    """An application whose answer has `SIZE` bytes, or 2 for the path `/short`."""
    body = b"ok" if scope["path"] == "/short" else b"x" * SIZE
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


class Short(TimedConnection):
    seconds = 0.2


@pytest.mark.parametrize(("path", "ends"), [("/long", True), ("/short", False)])
def test_a_client_that_does_not_read(path: str, ends: bool) -> None:
    """A short answer is with the client's system: the connection waits for the next request."""

    async def ended() -> bool:
        config = uvicorn.Config(answering, http=Short, ws="none", lifespan="off", log_config=None)
        config.load()
        state, loop = ServerState(), asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Short(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, server.sockets[0].getsockname())
            await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while not state.total_requests:
                await asyncio.sleep(0.01)
            (connection,) = state.connections
            for _ in range(6000 if ends else 60):
                if not state.connections:
                    break
                await asyncio.sleep(0.01)
            gone = not state.connections
            connection.transport.abort()
        server.close()
        return gone

    assert asyncio.run(ended()) == ends
