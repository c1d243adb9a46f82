"""What `ptv2 sweep` prints about a search: its space, its limits, and how it ended."""

from __future__ import annotations

import shlex
from collections import Counter

from ptv2_cli.cli import console
from ptv2_cli.cli.views.sweep_table import duration, named, plural
from ptv2_cli.sweeps.axes import Axis
from ptv2_cli.sweeps.engine import Forecast
from ptv2_cli.sweeps.leaderboard import short, show
from ptv2_cli.sweeps.search import Search
from ptv2_cli.sweeps.search_options import JOURNAL
from ptv2_cli.sweeps.store import Store


def show_search(search: Search, store: Store, *, every: bool) -> None:
    """The space, the limits, and what is known already; with `every`, on standard output."""
    say = console.say if every else console.note
    options, plan = search.options, store.plan
    limits = [plural(plan.expected, "trial")] if plan.expected else []
    limits += [f"at most {duration(options.seconds)}"] if options.seconds is not None else []
    say(f"search {store.folder}: {options.search}, {', '.join(limits)}")
    for axis in search.space:
        say(f"  {short(axis.key)}: {_values(axis)}")
    if options.prune:
        say(f"  prune: {options.prune}, by up to {plural(search.evaluations, 'evaluation')}")
    say(f"  study: {options.shown_storage or store.folder / JOURNAL}")
    counts = Counter(store.outcomes[record.fingerprint].status for record in store.records)
    if counts:
        known = ", ".join(f"{count} {_WORDS.get(word, word)}" for word, count in counts.items())
        say(f"known from earlier commands: {known}")
    for trial in search.refused:
        problem = trial.refusal[0]
        console.warn(f"{named(trial, False)} cannot run: {problem.what}", problem.hint)


def show_search_forecast(forecast: Forecast, search: Search, store: Store, *, every: bool) -> None:
    """How samples of the space would share the machine, and how long the search may take."""
    for line in forecast.lines:
        (console.say if every else console.note)(f"samples of the space: {line}")
    if not forecast.seconds:
        console.note("no estimate of the time: no sample could be timed")
        return
    each = sum(forecast.seconds.values()) / len(forecast.seconds)
    text = f"about {duration(each)} a trial: an estimate from a few timed steps"
    left = store.plan.expected - sum(outcome.done for outcome in store.outcomes.values())
    if store.plan.expected:
        text += f"; {duration(max(0, left) * each)} in all"
    console.note(text + ("; pruning makes it less" if search.options.prune else ""))


def show_search_end(search: Search, store: Store) -> None:
    """Why the search asks for nothing more, and how to go on or look at it."""
    if search.over == "time":
        console.note("the time is up; the same command with a longer --time goes on")
    elif search.over != "trials" and search.options.search != "grid":
        console.note("every setting of the space was tried")
    if search.options.storage is None:
        console.note(f"study: optuna-dashboard {shlex.quote(str(store.folder / JOURNAL))}")


_WORDS = {"running": "to continue", "interrupted": "to continue", "waiting": "to continue"}


def _values(axis: Axis) -> str:
    if axis.scale is None:
        return f"one of {', '.join(map(show, axis.values))}"
    low, high = (str(getattr(end, "source", end)) for end in axis.values)
    words = {"log": ", by logarithm", "uniform": "", "int": ", whole numbers"}
    return f"{low} to {high}{words[axis.scale]}"
