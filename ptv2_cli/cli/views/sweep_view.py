"""A sweep while it runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ptv2_cli.cli import console
from ptv2_cli.cli.views.progress import Progress
from ptv2_cli.cli.views.summary import percent
from ptv2_cli.cli.views.sweep_table import duration, named, several_configs, state
from ptv2_cli.runs.sinks.base import MakeSink
from ptv2_cli.sweeps.records import DONE, Outcome
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trials import Trial
from ptv2_cli.training.events import EvalDone, RunEvent, Started, StepDone, Warned

_FRAME = 7
"""Lines of the terminal that the table leaves free."""
_STYLES = {"failed": "red", "diverged": "red", "running": "bold", "waiting": "dim"}


@contextmanager
def view(
    store: Store, seconds: Mapping[str, float] | None, *, prefix: bool = False
) -> Iterator[PlainView | LiveView]:
    """The display of a sweep while it runs.

    Args:
        store: the sweep.
        seconds: the estimate of each trial by fingerprint.
        prefix: begin every plain line with its trial, because several may run at once.
    """
    if not console.err.is_terminal:
        yield PlainView(store, prefix=prefix)
        return
    shown = LiveView(store, seconds)
    with Live(console=console.err, get_renderable=shown.draw, refresh_per_second=4, transient=True):
        yield shown


class PlainView:
    """Lines: a trial starts, its progress, how it ended."""

    def __init__(self, store: Store, *, prefix: bool = False) -> None:
        trials = store.plan.trials
        self._prefix = prefix
        self._several = several_configs([trial.record for trial in trials])
        self._store = store

    def started(self, trial: Trial) -> MakeSink:
        """A trial starts or resumes."""
        console.note(f"{self._head(trial)}: {named(trial, self._several)}")
        head = self._head(trial) if self._prefix else ""
        return lambda run: Progress(run, head)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended."""
        text = f"{self._head(trial)}: {outcome.status}"
        if outcome.reason:
            text += f": {outcome.reason}"
        elif outcome.value is not None:
            seconds = outcome.seconds
            took = "" if seconds is None else f" ({duration(seconds)} of training)"
            text += f", {trial.record.metric} {percent(outcome.value)}{took}"
        console.note(text)

    def _head(self, trial: Trial) -> str:
        count = self._store.plan.count
        return f"trial {trial.number} of {count}" if count else f"trial {trial.number}"


@dataclass
class _Running:
    """The sink of a trial that has started: its progress."""

    row: int
    """Its row in the table of all trials."""
    metric: str
    warn: Callable[[str], None]
    state: str = "loading"
    steps: int = 0
    share: float = 0.0
    """Of its steps."""
    score: str = ""

    def on(self, event: RunEvent) -> None:
        """Note what the table shows."""
        if isinstance(event, Started):
            self.steps = event.steps
        elif isinstance(event, StepDone):
            self.share = event.step / self.steps
            self.state = f"step {event.step} of {self.steps}{self.score}"
        elif isinstance(event, EvalDone):
            self.score = f", {percent(event.scores.get(self.metric))}"
        elif isinstance(event, Warned):
            self.warn(event.text)

    def close(self) -> None:
        """Keep the last line: the store says how the trial ended."""


class LiveView:
    """A table of the trials near the running ones, redrawn while they run."""

    def __init__(self, store: Store, seconds: Mapping[str, float] | None) -> None:
        self._store = store
        self._several = several_configs([trial.record for trial in store.plan.trials])
        self._seconds = dict(seconds or {})
        self._started: dict[str, _Running] = {}
        self._rows = [0]
        """Of the trials that run, or ran last."""
        self._start = time.perf_counter()
        self._warned: set[str] = set()

    def started(self, trial: Trial) -> MakeSink:
        """A trial starts or resumes; others may be running."""
        running = _Running(self._trials.index(trial), trial.record.metric or "", self._warn)
        self._started[trial.record.fingerprint] = running
        return lambda run: running

    @property
    def _trials(self) -> tuple[Trial, ...]:
        """The trials of the plan; those of a search become more."""
        return self._store.plan.trials

    def _warn(self, text: str) -> None:
        """Show a warning once, whichever trials give it."""
        if text not in self._warned:
            self._warned.add(text)
            console.warn(text)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended."""
        if outcome.reason:
            console.warn(f"{named(trial, self._several)} {outcome.status}: {outcome.reason}")

    def draw(self) -> Group:
        """The table of this moment."""
        outcomes, running = self._store.outcomes, self._running()
        done = sum(outcomes[t.record.fingerprint].status in DONE for t in self._trials)
        at_once = f", {len(running)} running" if len(running) > 1 else ""
        title = f"{done} of {self._store.plan.count} trials{at_once}{self._left()}"
        table = Table(box=None, pad_edge=False)
        for column in ("trial", "values", "state", "score"):
            table.add_column(column, overflow="ellipsis", no_wrap=True)
        room = max(3, console.err.size.height - _FRAME)
        # Between two trials none runs: the table does not move.
        self._rows = [trial.row for trial in running.values()] or self._rows
        for row in nearest(len(self._trials), self._rows, room):
            trial = self._trials[row]
            mark = trial.record.fingerprint
            now = running[mark].state if mark in running else state(self._store, trial)
            value = percent(outcomes[mark].value)
            cells = (str(trial.number), named(trial, self._several), now, value)
            table.add_row(*map(console.plain, cells), style=_STYLES.get(outcomes[mark].status))
        # Not the table's own title, which would wrap where the table is narrow.
        return Group(Text(title, "table.title", no_wrap=True, overflow="ellipsis"), table)

    def _running(self) -> dict[str, _Running]:
        """The trials that run now, by fingerprint."""
        started = list(self._started.items())  # a copy, because another thread draws
        outcomes = self._store.outcomes
        return {mark: trial for mark, trial in started if outcomes[mark].status == "running"}

    def _left(self) -> str:
        """The time left, by the estimate and the pace so far."""
        total = sum(self._seconds.values())
        if not total:
            return ""
        done = sum(self._done(mark) * seconds for mark, seconds in self._seconds.items())
        elapsed = time.perf_counter() - self._start
        pace = elapsed / done if done > 0.05 * total else 1.0
        return f", about {duration(max(0.0, (total - done) * pace))} left"

    def _done(self, mark: str) -> float:
        """The share of a trial that this command has done."""
        trial, status = self._started.get(mark), self._store.outcomes[mark].status
        if trial is None:
            return 0.0
        if status == "running":
            return trial.share
        return 1.0 if status in DONE or status == "failed" else 0.0


def nearest(count: int, centers: Sequence[int], room: int) -> list[int]:
    """Of `count` rows the `room` nearest to any of `centers`, in order."""
    distance = {row: min(abs(row - center) for center in centers) for row in range(count)}
    return sorted(sorted(distance, key=lambda row: (distance[row], row))[:room])
