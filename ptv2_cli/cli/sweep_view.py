"""A sweep while it runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from ptv2_cli.cli import console
from ptv2_cli.cli.progress import Progress
from ptv2_cli.cli.summary import percent
from ptv2_cli.cli.sweep_table import duration, named, several_configs, state
from ptv2_cli.run.events import Listener, RunEvent, Started, Warned
from ptv2_cli.run.experiment import Experiment
from ptv2_cli.run.log import LogFile
from ptv2_cli.sweep.entry import DONE, Outcome
from ptv2_cli.sweep.store import Store
from ptv2_cli.sweep.trials import Trial
from ptv2_cli.train.events import EvalDone, StepDone

_FRAME = 7
"""Lines of the terminal that the table leaves free."""
_STYLES = {"failed": "red", "diverged": "red", "running": "bold", "waiting": "dim"}


@contextmanager
def view(store: Store, seconds: Sequence[float] | None) -> Iterator[PlainView | LiveView]:
    """Whoever shows the sweep, while it runs; `seconds` are the estimates of the trials left."""
    if not console.err.is_terminal:
        yield PlainView(store)
        return
    shown = LiveView(store, seconds)
    with Live(console=console.err, get_renderable=shown.draw, refresh_per_second=4, transient=True):
        yield shown


class PlainView:
    """Lines: a trial begins, what it tells, how it ended."""

    def __init__(self, store: Store) -> None:
        trials = store.prepared.trials
        self._several = several_configs([trial.entry for trial in trials])
        self._numbers = {trial.entry.fingerprint: at for at, trial in enumerate(trials, 1)}

    def trial(self, trial: Trial, experiment: Experiment) -> AbstractContextManager[Listener]:
        """A trial begins or goes on."""
        console.note(f"{self._head(trial)}: {named(trial, self._several)}")
        return Progress(experiment)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended, well or not."""
        text = f"{self._head(trial)}: {outcome.status}"
        if outcome.reason:
            text += f": {outcome.reason}"
        elif outcome.value is not None:
            took = f" ({duration(outcome.seconds)})" if outcome.seconds is not None else ""
            text += f", {trial.entry.metric} {percent(outcome.value)}{took}"
        console.note(text)

    def _head(self, trial: Trial) -> str:
        return f"trial {self._numbers[trial.entry.fingerprint]} of {len(self._numbers)}"


class LiveView:
    """A table of the trials around the present one, redrawn as it goes on."""

    def __init__(self, store: Store, seconds: Sequence[float] | None) -> None:
        self._store = store
        self._trials = store.prepared.trials
        self._several = several_configs([trial.entry for trial in self._trials])
        left = [t.entry.fingerprint for t in store.left() if t.experiment is not None]
        self._seconds = dict(zip(left, seconds, strict=True)) if seconds else {}
        self._at = 0
        self._now = ""
        self._share = 0.0
        self._began = time.perf_counter()
        self._past = 0.0
        self._warned: set[str] = set()

    @contextmanager
    def trial(self, trial: Trial, experiment: Experiment) -> Iterator[Listener]:
        """A trial begins or goes on."""
        log, steps, score = LogFile(experiment.directory.log), 0, ""
        self._at = self._trials.index(trial)
        self._now, self._share = "loading", 0.0

        def listen(event: RunEvent) -> None:
            nonlocal steps, score
            log(event)
            if isinstance(event, Started):
                steps = event.steps
            elif isinstance(event, StepDone):
                self._share = event.step / steps
                self._now = f"step {event.step} of {steps}{score}"
            elif isinstance(event, EvalDone):
                score = f", {percent(event.scores.get(trial.entry.metric or ''))}"
            elif isinstance(event, Warned) and event.text not in self._warned:
                self._warned.add(event.text)
                console.warn(event.text)

        yield listen

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has ended, well or not."""
        self._past += self._seconds.get(trial.entry.fingerprint, 0.0)
        self._share = 0.0
        if outcome.reason:
            console.warn(f"{named(trial, self._several)} {outcome.status}: {outcome.reason}")

    def draw(self) -> Table:
        """The table as it stands."""
        outcomes = self._store.outcomes
        done = sum(outcomes[t.entry.fingerprint].status in DONE for t in self._trials)
        title = f"{done} of {len(self._trials)} trials{self._left()}"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in ("trial", "values", "state", "score"):
            table.add_column(column, overflow="ellipsis", no_wrap=True)
        room = max(3, console.err.size.height - _FRAME)
        first = max(0, min(self._at - room // 2, len(self._trials) - room))
        for at, trial in list(enumerate(self._trials))[first : first + room]:
            outcome = outcomes[trial.entry.fingerprint]
            here = self._now if outcome.status == "running" else state(self._store, trial)
            cells = (str(at + 1), named(trial, self._several), here, percent(outcome.value))
            table.add_row(*map(escape, cells), style=_STYLES.get(outcome.status))
        return table

    def _left(self) -> str:
        """What is left of the estimate, at the pace that the trials have kept so far."""
        total = sum(self._seconds.values())
        if not total:
            return ""
        mark = self._trials[self._at].entry.fingerprint
        past = self._past + self._share * self._seconds.get(mark, 0.0)
        elapsed = time.perf_counter() - self._began
        pace = elapsed / past if past > 0.05 * total else 1.0
        return f", about {duration(max(0.0, (total - past) * pace))} left"
