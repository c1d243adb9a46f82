"""What all trackers share: the curve of a run, sent to a library that may fail or hang."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

from ptv2_cli.config.section import Section
from ptv2_cli.files import make_folder, write_atomic
from ptv2_cli.importing import uncollected
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.sinks.worker import Worker
from ptv2_cli.training.events import Finished, RunEvent, Saved, Started

_NO_NAME = re.compile(r"[^\w\-. /]")
"""What MLflow, which is the strictest, does not take in the name of a score."""

_SILENT: set[tuple[str, str]] = set()
"""Trackers, with their options, that did not answer when a run began: a sweep waits for each once.
"""


class TrackerOptions(Section):
    """Options of a tracker."""

    @property
    def server(self) -> str | None:
        """Where the tracker sends the run; None: it stays on this machine."""
        return None


@dataclass(frozen=True)
class TrackedRun:
    """The run as the tracker knows it, kept in `trackers/NAME.json` of the run's folder."""

    id: str
    """The tracker's own name of the run, with which it goes on."""
    step: int = -1
    """The last step of its curve; -1: it has none yet."""


class Tracker(ABC):
    """A sink that sends the lines of a run's history to a tracking library.

    A line is sent once it is saved with a checkpoint, so a resumed run repeats none: it sends the
    lines behind the last one that the tracker has. All calls of the library happen in a thread of
    their own, so that training never waits for a server; only the beginning and the end of the run
    do, for `worker.LIMIT` seconds at most.
    """

    Options: ClassVar[type[TrackerOptions]] = TrackerOptions
    name: ClassVar[str]
    """As `track:` names it; the library's module and ptv2's extra have this name too."""

    def __init__(self, run: ResolvedRun, options: Any) -> None:
        """Begin or continue the run in the tracker.

        Raises:
            Exception: of the library; TimeoutError: it does not answer.
        """
        self.tracker = self.name  # in warnings
        self.run = run
        self.options = options
        self._file = run.directory.path / "trackers" / f"{self.name}.json"
        make_folder(self._file.parent)
        self._lines = 0
        """Lines of the history that were sent or need not be."""
        self._finished = False
        key = (self.name, repr(options))
        if key in _SILENT:
            raise TimeoutError(f"{self.name} did not answer an earlier run")
        with uncollected():
            self.load()
        self._worker = Worker(self.name)
        try:
            with self.quiet():
                self._worker.call(self._begin)
        except TimeoutError:
            _SILENT.add(key)
            raise

    @abstractmethod
    def load(self) -> None:
        """Import the library, which is no part of the time that it may take to answer."""

    @abstractmethod
    def open(self, known: TrackedRun | None) -> TrackedRun:
        """Begin the run, or continue the one that is known."""

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curves."""

    @abstractmethod
    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Send the results: the content of metrics.json."""

    @abstractmethod
    def end(self, *, finished: bool) -> None:
        """End the run, or put it off until it is resumed."""

    def quiet(self) -> AbstractContextManager[Any]:
        """Around all that waits for the library: what keeps it from printing."""
        return nullcontext()

    def on(self, event: RunEvent) -> None:
        """Send what is new in the history.

        Raises:
            Exception: of the library, in an earlier call; TimeoutError: it does not answer.
        """
        if isinstance(event, Started) or (isinstance(event, Saved) and event.name == "last"):
            self._send_lines()
        elif isinstance(event, Finished):
            self._finished = True
            self._send_lines()
            self._worker.put(partial(self.finish, event.metrics))
        self._worker.check()

    def close(self) -> None:
        """Wait until all is sent.

        Raises:
            Exception: of the library; TimeoutError: it does not answer.
        """
        if not self._worker.failed:
            with self.quiet():
                self._worker.close(partial(self.end, finished=self._finished))

    def content(self) -> dict[str, Any]:
        """The resolved config."""
        return self.run.resolved.config.model_dump(mode="json")

    def _begin(self) -> None:
        known = None
        if self._file.is_file():
            known = TrackedRun(**json.loads(self._file.read_text(encoding="utf-8")))
        self._tracked = self.open(known)
        self._keep()

    def _keep(self) -> None:
        write_atomic(self._file, f"{json.dumps(asdict(self._tracked))}\n".encode())

    def _send_lines(self) -> None:
        """Queue the lines of the history that the tracker does not have."""
        lines = self.run.directory.history.read_text(encoding="utf-8").splitlines()
        for text in lines[self._lines :]:
            line = json.loads(text)
            if line["step"] > self._tracked.step:
                self._worker.put(partial(self._send, line))
        self._lines = len(lines)

    def _send(self, line: Mapping[str, Any]) -> None:
        self.log(line["step"], dict(curve(line, self.run.resolved.config.selection.split)))
        self._tracked = TrackedRun(self._tracked.id, line["step"])
        self._keep()


def curve(line: Mapping[str, Any], split: str) -> Iterator[tuple[str, float]]:
    """Name and value of each figure in a line of the history; none that is not finite.

    Args:
        line: of history.jsonl.
        split: the one that was evaluated.
    """
    tasks = line.get("validation_losses", {})
    values = {
        "train/loss": line["train_loss"],
        "train/lr": line["lr"],
        "train/epoch": line["epoch"],
        f"{split}/loss": line["validation_loss"],
        **{f"{split}/loss/{task}": loss for task, loss in tasks.items()},
        **{f"{split}/{metric}": score for metric, score in line["metrics"].items()},
    }
    return finite(values)


def results(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The scores at the chosen epoch, `chosen/<split>/<metric>`."""
    scores = {
        f"chosen/{split}/{name}": score
        for split, table in metrics["metrics"].items()
        for name, score in table.items()
    }
    return dict(finite(scores))


def finite(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The finite numbers among the values, by names that every tracker takes."""
    for name, value in values.items():
        if value is not None and math.isfinite(value):
            yield _NO_NAME.sub("_", name), float(value)


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in nested mappings that is not null."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value
