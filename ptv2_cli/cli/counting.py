"""Progress over rows whose number is not known before: a bar by bytes read, or plain lines."""

from __future__ import annotations

import time
from types import TracebackType
from typing import BinaryIO

from rich.progress import BarColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ptv2_cli.cli import console
from ptv2_cli.cli.progress import PLAIN_EVERY, PlainColumn


class Counting:
    """Counts rows; shows them on standard error while rows are predicted."""

    def __init__(self, stream: BinaryIO, size: int | None, *, bar: bool = True) -> None:
        """Take the stream that is read, and its size in bytes (None: unknown).

        Without `bar` a terminal shows none: rows that are printed there would tear it.
        """
        self._stream, self._size = stream, size
        self._bars = Bars(
            PlainColumn("predict"),
            BarColumn(bar_width=None),
            PlainColumn("{task.fields[shown]}"),
            TimeRemainingColumn(compact=True),
            console=console.err,
            transient=True,
            disable=not (bar and console.err.is_terminal),
        )
        self._bar = self._bars.add_task("predict", total=size, shown="")
        self._since = self._said = time.perf_counter()
        self.done = 0
        """Rows seen by the model, of which the last may not be written yet."""
        self.rows = 0
        """Rows predicted and written."""
        self.bad = 0

    def __enter__(self) -> Counting:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    @property
    def rate(self) -> float:
        """Rows per second, once the model is there."""
        return self.done / max(time.perf_counter() - self._since, 1e-9)

    def tick(self, rows: int) -> None:
        """So many more rows are done; 0: the model is there."""
        if not self.done and not rows:
            self._since = time.perf_counter()
        self.done += rows
        at = None if self._size is None else self._stream.tell()
        self._bars.update(self._bar, completed=at, shown=self._shown())
        if not console.err.is_terminal and time.perf_counter() - self._said > PLAIN_EVERY:
            self._said = time.perf_counter()
            share = "" if at is None or not self._size else f", {at / self._size:.0%} of the file"
            console.note(f"{self._shown()}{share}")

    def wrote(self, rows: int, bad: int) -> None:
        """So many more lines and bad rows are written."""
        self.rows += rows
        self.bad += bad

    def _shown(self) -> str:
        return f"{self.done:,} rows, {self.rate:,.0f} rows/s"
