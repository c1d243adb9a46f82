"""What Prometheus reads from a server."""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OTHER = "other"
"""Stands for paths that the server does not have."""


class Measures:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ptv2_requests",
            "Requests answered, by path and status code.",
            ("path", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "ptv2_predict_seconds",
            "Seconds from the headers of a request to predict to its answer.",
            ("run",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.rows = Counter("ptv2_rows", "Rows predicted.", ("run",), registry=self.registry)
        self.batch_rows = Histogram(
            "ptv2_batch_rows", "Rows of a batch.", buckets=ROWS, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "ptv2_batch_seconds",
            "Seconds in which a batch is tokenized and predicted.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.queue = Gauge("ptv2_queue_rows", "Rows that wait.", registry=self.registry)
        self.runs = Gauge("ptv2_runs", "Runs that are served.", registry=self.registry)

    def forget(self, run: str) -> None:
        """Drop the figures of a run that is no longer served."""
        for measure in (self.seconds, self.rows):
            with suppress(KeyError):  # it has answered nothing
                measure.remove(run)

    def text(self) -> bytes:
        """All of them in the text format of Prometheus."""
        return generate_latest(self.registry)
