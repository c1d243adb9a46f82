"""Live progress of a run: a rich bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import BinaryIO

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from ptv2_cli.cli import console
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.sinks.log import describe
from ptv2_cli.training.events import (
    EvalDone,
    RateFound,
    RunEvent,
    Started,
    StepDone,
    Stopped,
    Ticked,
    Warned,
)

REFRESH = 0.5
"""Seconds between two looks at the loss, each of which waits for the device."""
PLAIN_EVERY = 30.0
"""Seconds between two plain lines."""


class PlainColumn(TextColumn):
    """A column of a bar whose text is shown as it is: no markup, no control characters."""

    def render(self, task: Task) -> Text:
        """The text of one bar."""
        return console.plain(self.text_format.format(task=task))


class Progress:
    """The sink that shows a run in the terminal."""

    def __init__(self, resolved_run: ResolvedRun, head: str = "") -> None:
        """Show one run.

        `head` begins every plain line of one run among several; a terminal has room for the bars
        of one run alone.
        """
        self._head = f"{head}: " if head else ""
        self._metric = resolved_run.resolved.config.selection.metric or ""
        self._bars = Bars(
            PlainColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            PlainColumn("{task.fields[shown]}"),
            TimeRemainingColumn(compact=True),
            console=console.err,
            transient=True,
            disable=not console.err.is_terminal,
        )
        self._main: TaskID | None = None
        self._side: TaskID | None = None
        self._steps = 0
        self._score = ""
        self._mark(0)
        self._bars.start()

    def close(self) -> None:
        """Take the bars off the terminal."""
        self._bars.stop()

    def on(self, event: RunEvent) -> None:
        """Show one event."""
        if isinstance(event, Started):
            self._begin(event)
        elif isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, Ticked):
            self._tick(event)
        elif isinstance(event, EvalDone):
            self._score = f"{self._metric} {100 * event.scores.get(self._metric, 0):.1f}"
        if isinstance(event, Warned):
            console.warn(f"{self._head}{event.text}")
        elif isinstance(event, RateFound | Started | EvalDone | Stopped):
            console.note(f"{self._head}{describe(event, self._metric) or ''}")

    def _begin(self, event: Started) -> None:
        self._steps = event.steps
        self._mark(event.resumed_at)
        self._main = self._bars.add_task(
            "train", total=event.steps, completed=event.resumed_at, shown=""
        )

    def _step(self, event: StepDone) -> None:
        self._rows += event.rows
        elapsed = time.perf_counter() - self._since
        wait = REFRESH if console.err.is_terminal else PLAIN_EVERY
        if elapsed < wait and event.step < self._steps:
            return
        shown = (
            f"epoch {event.epoch:.1f} loss {float(event.loss):.3f} {self._score} "
            f"{self._rows / elapsed:.0f} ex/s"
        )
        if self._main is not None:
            self._bars.update(self._main, completed=event.step, shown=shown)
        if not console.err.is_terminal and event.step < self._steps:
            left = (self._steps - event.step) * elapsed / (event.step - self._from_step)
            console.note(
                f"{self._head}step {event.step} of {self._steps}: {shown}, "
                f"about {left:.0f} s of training left"
            )
        self._mark(event.step)

    def _mark(self, step: int) -> None:
        """Begin to measure the rate anew."""
        self._from_step, self._rows, self._since = step, 0, time.perf_counter()

    def _tick(self, event: Ticked) -> None:
        if self._side is None:
            self._side = self._bars.add_task("evaluate", total=event.total, shown="")
        self._bars.update(self._side, completed=event.done, total=event.total, shown=event.split)
        if event.done >= event.total:
            self._bars.remove_task(self._side)
            self._side = None
            # Evaluation time is no training time.
            self._since = time.perf_counter()


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

    def __exit__(self, *error: object) -> None:
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
