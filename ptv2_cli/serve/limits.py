"""What a server accepts and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The bounds of a server; `ptv2 serve` has an option for each but the last two."""

    max_batch: int = 64
    """Rows of one batch of several requests; a request that has more is a batch of its own."""
    max_wait: float = 0.005
    """Seconds that the oldest request waits for others to join its batch."""
    max_queue: int = 2048
    """Rows that wait; when they are so many, requests get 503."""
    max_rows: int = 256
    """Rows of a request."""
    max_body: int = 1 << 20
    """Bytes of the body of a request."""
    max_chars: int = 20_000
    """Characters of all texts of a row."""
    timeout: float = 60.0
    """Seconds from the headers of a request to its answer."""
    client_timeout: float = 10.0
    """Seconds in which a client must send its headers, then its body, and read its answer."""
    drain: float = 30.0
    """Seconds in which a server that stops answers the requests that it has."""
    max_bodies: int = 256 << 20
    """Bytes of all bodies that are being read."""
    linger: float = 2.0
    """Seconds for which the rest of a refused body is discarded, so that the client reads why."""
