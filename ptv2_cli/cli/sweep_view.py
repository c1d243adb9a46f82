"""A sweep while it runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ptv2_cli.cli import console
from ptv2_cli.cli.progress import Progress
from ptv2_cli.cli.summary import percent
from ptv2_cli.cli.sweep_table import duration, named, several_configs, state
from ptv2_cli.runs.sinks.base import MakeSink
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trial_record import DONE, Outcome
from ptv2_cli.sweeps.trials import Trial
from ptv2_cli.training.events import EvalDone, RunEvent, Started, StepDone, Warned

_FRAME = 7
"""Lines of the terminal that the table leaves free."""
_STYLES = {"failed": "red", "diverged": "red", "running": "bold", "waiting": "dim"}


@contextmanager
def view(
    store: Store, seconds: Sequence[float] | None, *, several: bool = False
) -> Iterator[PlainView | LiveView]:
    """Whoever shows the sweep, while it runs.

    Args:
        store: the sweep.
        seconds: the estimates of the trials left.
        several: more than one trial may run at once, so that every plain line says whose it is.
    """
    if not console.err.is_terminal:
        yield PlainView(store, several=several)
        return
    shown = LiveView(store, seconds)
    with Live(console=console.err, get_renderable=shown.draw, refresh_per_second=4, transient=True):
        yield shown


class PlainView:
    """Lines: a trial begins, what it tells, how it ended."""

    def __init__(self, store: Store, *, several: bool = False) -> None:
        trials = store.prepared.trials
        self._at_once = several
        self._several = several_configs([trial.entry for trial in trials])
        self._numbers = {trial.entry.fingerprint: at for at, trial in enumerate(trials, 1)}

    def began(self, trial: Trial) -> MakeSink:
        """A trial begins or goes on."""
        console.note(f"{self._head(trial)}: {named(trial, self._several)}")
        head = self._head(trial) if self._at_once else ""
        return lambda resolved_run: Progress(resolved_run, head)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended, well or not."""
        text = f"{self._head(trial)}: {outcome.status}"
        if outcome.reason:
            text += f": {outcome.reason}"
        elif outcome.value is not None:
            seconds = outcome.seconds
            took = "" if seconds is None else f" ({duration(seconds)} of training)"
            text += f", {trial.entry.metric} {percent(outcome.value)}{took}"
        console.note(text)

    def _head(self, trial: Trial) -> str:
        return f"trial {self._numbers[trial.entry.fingerprint]} of {len(self._numbers)}"


@dataclass
class _Running:
    """The sink of a trial that has begun: how far it is."""

    at: int
    """Its place in the plan."""
    metric: str
    warn: Callable[[str], None]
    now: str = "loading"
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
            self.now = f"step {event.step} of {self.steps}{self.score}"
        elif isinstance(event, EvalDone):
            self.score = f", {percent(event.scores.get(self.metric))}"
        elif isinstance(event, Warned):
            self.warn(event.text)

    def close(self) -> None:
        """Keep the last line: the store says how the trial ended."""


class LiveView:
    """A table of the trials around those that run, redrawn as they go on."""

    def __init__(self, store: Store, seconds: Sequence[float] | None) -> None:
        self._store = store
        self._trials = store.prepared.trials
        self._several = several_configs([trial.entry for trial in self._trials])
        left = [t.entry.fingerprint for t in store.left() if t.resolved_run is not None]
        self._seconds = dict(zip(left, seconds, strict=True)) if seconds else {}
        self._begun: dict[str, _Running] = {}
        self._near = [0]
        self._began = time.perf_counter()
        self._warned: set[str] = set()

    def began(self, trial: Trial) -> MakeSink:
        """A trial begins or goes on; others may be running."""
        running = _Running(self._trials.index(trial), trial.entry.metric or "", self._warn)
        self._begun[trial.entry.fingerprint] = running
        return lambda resolved_run: running

    def _warn(self, text: str) -> None:
        """Show a warning of some trial, once."""
        if text not in self._warned:
            self._warned.add(text)
            console.warn(text)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended, well or not."""
        if outcome.reason:
            console.warn(f"{named(trial, self._several)} {outcome.status}: {outcome.reason}")

    def draw(self) -> Group:
        """The table as it stands."""
        outcomes, running = self._store.outcomes, self._running()
        done = sum(outcomes[t.entry.fingerprint].status in DONE for t in self._trials)
        at_once = f", {len(running)} running" if len(running) > 1 else ""
        title = f"{done} of {len(self._trials)} trials{at_once}{self._left()}"
        table = Table(box=None, pad_edge=False)
        for column in ("trial", "values", "state", "score"):
            table.add_column(column, overflow="ellipsis", no_wrap=True)
        room = max(3, console.err.size.height - _FRAME)
        # Where none runs, between two trials, the table stays where it was.
        self._near = [lane.at for lane in running.values()] or self._near
        for at in nearest(len(self._trials), self._near, room):
            trial = self._trials[at]
            mark = trial.entry.fingerprint
            here = running[mark].now if mark in running else state(self._store, trial)
            value = percent(outcomes[mark].value)
            cells = (str(at + 1), named(trial, self._several), here, value)
            table.add_row(*map(console.plain, cells), style=_STYLES.get(outcomes[mark].status))
        # No title of the table's: it would be broken where the table is narrower.
        return Group(Text(title, "table.title", no_wrap=True, overflow="ellipsis"), table)

    def _running(self) -> dict[str, _Running]:
        """The trials that run, by fingerprint; the store knows which of those begun still do."""
        begun = list(self._begun.items())  # at once: another thread draws
        outcomes = self._store.outcomes
        return {mark: lane for mark, lane in begun if outcomes[mark].status == "running"}

    def _left(self) -> str:
        """What is left of the estimate, at the pace that the trials have kept so far."""
        total = sum(self._seconds.values())
        if not total:
            return ""
        past = sum(self._past(mark) * seconds for mark, seconds in self._seconds.items())
        elapsed = time.perf_counter() - self._began
        pace = elapsed / past if past > 0.05 * total else 1.0
        return f", about {duration(max(0.0, (total - past) * pace))} left"

    def _past(self, mark: str) -> float:
        """The share of a trial that this command has behind it."""
        lane, status = self._begun.get(mark), self._store.outcomes[mark].status
        if lane is None:
            return 0.0
        if status == "running":
            return lane.share
        return 1.0 if status in DONE or status == "failed" else 0.0


def nearest(count: int, places: Sequence[int], room: int) -> list[int]:
    """The `room` of `count` rows that lie nearest to any of `places`, in their order."""
    distance = {at: min(abs(at - place) for place in places) for at in range(count)}
    return sorted(sorted(distance, key=lambda at: (distance[at], at))[:room])
