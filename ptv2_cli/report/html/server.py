"""A live page over HTTP, for browsers of this machine alone."""

from __future__ import annotations

import socketserver
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ptv2_cli.report.html.live_page import LivePage

HOST = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageServer(ThreadingHTTPServer):
    """Answers `/` with the page and `/version` with its version, on this machine's own address."""

    daemon_threads = True  # a request that still runs keeps nobody waiting at the end

    def __init__(self, page: LivePage, port: int) -> None:
        """Listen on a port; 0 takes a free one.

        Raises:
            OSError: the port is in use, or may not be used.
        """
        self.page = page
        super().__init__((HOST, port), _Handler)

    @property
    def address(self) -> str:
        """What to type into a browser."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """Bind without asking for the machine's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a browser that went away in the middle of an answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        if self.headers.get("Host") not in {f"{name}:{port}" for name in (HOST, "localhost")}:
            # A name of somebody else's that leads here would let their page read this one.
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"this page is for this machine alone")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, "text/html", self.server.page.content())
        elif self.path == "/version":
            self._answer(HTTPStatus.OK, "text/plain", self.server.page.version().encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is only / and /version")

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: an open page asks every two seconds."""
