"""Sinks: whatever follows a run while it trains, such as a log file or an experiment tracker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ptv2_cli.errors import Ptv2Error
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.safe_text import without_passwords
from ptv2_cli.training.events import RunEvent


class Sink(Protocol):
    """Follows one run.

    `MakeSink` makes it when the run begins or goes on: the run's directory exists then. It gets
    every event of `ptv2_cli.training.events` in order, in the thread that trains: `Started`, which
    says at which step a run goes on, then `StepDone`, `Ticked`, `EvalDone`, `Saved` and `Warned`,
    then `Stopped`, and last `Finished` with the content of metrics.json. A run that is interrupted
    or fails ends without the last two. With `train.lr: auto`, `Ticked` of the range test and
    `RateFound` come before `Started`.

    A run goes on from its last save, with a new sink. After a kill some steps come a second time:
    those after `Started.resumed_at`.

    A sink cannot stop a run: if `on` raises, the run warns, closes the sink and goes on. Only
    `MakeSink` may refuse a run, by an `InputError`, before it trains.
    """

    def on(self, event: RunEvent) -> None:
        """Take one event. `StepDone.loss` is a tensor; reading its value waits for the device."""

    def close(self) -> None:
        """Give back what it holds. Called once, however the run ends."""


MakeSink = Callable[[ResolvedRun], Sink]
"""Makes the sink of a run; a class whose instances take the run alone is one."""


Warn = Callable[[str], None]


class Sinks:
    """The open sinks of a run. `warn` gets a line about each that fails."""

    def __init__(self) -> None:
        self._open: list[Sink] = []

    def add(self, sink: Sink) -> None:
        """Keep one open until `close`."""
        self._open.append(sink)

    def make(self, make: MakeSink, run: ResolvedRun, warn: Warn) -> None:
        """Make one and keep it open.

        Raises:
            Ptv2Error: it refuses the run. Any other error is a warning.
        """
        try:
            self.add(make(run))
        except Ptv2Error:
            raise
        except Exception as error:
            warn(f"{_name(make)} cannot follow the run: {_reason(error)}")

    def on(self, event: RunEvent, warn: Warn) -> None:
        """Give an event to all; one that raises gets no further ones."""
        for sink in tuple(self._open):
            if sink not in self._open:  # it failed over the warning about another
                continue
            try:
                sink.on(event)
            except Exception as error:
                self._open.remove(sink)
                warn(f"{_name(sink)} failed and no longer follows the run: {_reason(error)}")
                _close(sink, warn)

    def close(self, warn: Warn) -> None:
        """Close all, the last one first, so that the first can still note what fails."""
        try:
            while self._open:
                _close(self._open.pop(), warn)
        finally:
            if self._open:  # a second signal: the others are closed all the same
                self.close(warn)


def _close(sink: Sink, warn: Warn) -> None:
    try:
        sink.close()
    except Exception as error:
        warn(f"{_name(sink)} could not be closed: {_reason(error)}")


def _name(sink: object) -> str:
    """What to call it: a tracker by its name in the config, others by their function or class."""
    tracker = getattr(sink, "tracker", None)
    if tracker is not None:
        return f"the tracker {tracker}"
    return f"the sink {getattr(sink, '__name__', type(sink).__name__)}"


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    # An error of a tracker may say with which password it was at its server.
    first = without_passwords(text[0]) if text else ""
    return f"{type(error).__name__}: {first}" if text else type(error).__name__
