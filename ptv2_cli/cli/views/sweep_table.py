"""What `ptv2 sweep` prints before it starts and when it is done."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ptv2_cli.cli import console
from ptv2_cli.cli.views.summary import percent
from ptv2_cli.config.overrides import FLAGS
from ptv2_cli.errors import EXIT_DEFECT
from ptv2_cli.report.noise import LEVEL
from ptv2_cli.report.text_table import p_value
from ptv2_cli.sweeps.axes import SEED
from ptv2_cli.sweeps.engine import Forecast
from ptv2_cli.sweeps.grid import in_range
from ptv2_cli.sweeps.leaderboard import Edge, Leaderboard, Setting, short, show
from ptv2_cli.sweeps.records import DONE, TrialRecord
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trials import Trial

_STATES = {
    "waiting": "to do",
    "running": "to do",
    "interrupted": "to continue",
    "finished": "finished",
    "early_stopped": "finished",
    "diverged": "diverged",
    "pruned": "pruned",
    "failed": "failed before, to do again",
}


def named(trial: Trial, many: bool) -> str:
    """A trial in one line: `prompt_len 20, lr 0.005, seed 11`."""
    record = trial.record
    words = [record.config] if many or not record.values else []
    words += [f"{short(key)} {show(value)}" for key, value in record.values.items()]
    return ", ".join([*words, f"seed {record.seed}"])


def state(store: Store, trial: Trial) -> str:
    """The state of a trial that does not run at the moment."""
    if trial.resolved_run is None:
        return "cannot run"
    return _STATES[store.outcomes[trial.record.fingerprint].status]


def show_plan(store: Store, *, every: bool) -> None:
    """The number of trials and their states; with `every`, a line for each."""
    plan = store.plan
    counts = Counter(state(store, trial) for trial in plan.trials)
    parts = ", ".join(f"{count} {what}" for what, count in counts.items())
    merged = plural(plan.merged, "duplicate")
    note = f" ({merged} merged: equal runs)" if plan.merged else ""
    say = console.say if every else console.note
    say(f"sweep {store.folder}: {plural(len(plan.trials), 'trial')}{note}: {parts}")
    several = several_configs([trial.record for trial in plan.trials])
    if every:
        rows = [
            (str(trial.number), named(trial, several), state(store, trial)) for trial in plan.trials
        ]
        console.table("", ("trial", "values", "state"), rows)
    for trial in plan.trials:
        for problem in trial.refusal[:1]:
            console.warn(f"{named(trial, several)} cannot run: {problem.what}", problem.hint)
    planned = {trial.record.fingerprint for trial in plan.trials}
    others = [record for record in store.records if record.fingerprint not in planned]
    if others:
        left = sum(store.outcomes[record.fingerprint].status not in DONE for record in others)
        note = f", {left} of them not finished; this command does not run them" if left else ""
        say(f"plus {plural(len(others), 'trial')} of earlier commands{note}")


def show_forecast(forecast: Forecast, store: Store, *, every: bool) -> None:
    """How the trials will share the machine, and how long they may take."""
    for line in forecast.lines:
        (console.say if every else console.note)(line)
    trials = [trial for trial in store.left() if trial.resolved_run is not None]
    if not trials:
        return
    if forecast.seconds is None:
        console.note("no estimate of the time: no trial was timed")
        return
    text = f"about {duration(sum(forecast.seconds.values()))}: an estimate from a few timed steps"
    if any(trial.combination.loaded.config.train.early_stopping for trial in trials):
        text += "; early stopping may make it less"
    console.note(text)


def show_results(store: Store, *, offline: bool = False) -> int:
    """Show the tables of settings, write the best, show what failed; returns the exit code."""
    boards = store.leaderboards(tested=True)
    store.save(boards)
    written = store.write_best(boards)
    for board in boards:
        _show_board(board)
    failed = _show_failures(store)
    for board in boards:
        for edge in () if store.plan.searched else board.edges():
            _warn_edge(edge, board, store)
    _next(store, boards, written, " --offline" if offline else "")
    return EXIT_DEFECT if failed else 0


def _show_board(board: Leaderboard) -> None:
    columns = ["config"] if len(board.configs) > 1 else []
    columns += [short(key) for key in board.keys] or ([] if columns else ["config"])
    tested = any(setting.verdict and setting.verdict.p is not None for setting in board.settings)
    rows = []
    for setting in board.ranked:
        cells = board.cells(setting) or [setting.records[0].config]
        mean, spread = percent(setting.mean), percent(setting.deviation)
        p = setting.verdict.p if setting.verdict else None
        told = ["-" if p is None else p_value(p)] if tested else []
        figures = [mean, spread, str(len(setting.scores)), *told]
        rows.append([*cells, *figures, ", ".join(_remarks(setting, board))])
    console.say(f"{board.task} {board.split}: {board.metric or 'score'}")
    console.table("", [*columns, "mean", "sd", "seeds", *(["p"] if tested else []), ""], rows)
    beside = [f"majority baseline {percent(board.majority)}"] * (board.majority is not None)
    beside += [f"standard error {percent(board.error)}"] * (board.error is not None)
    if beside:
        console.say(", ".join(beside))
    if tested:
        console.say(
            f"p: against the best, over rows and seeds, Holm-corrected; noise: p >= {LEVEL}"
        )
    if board.best is not None:
        console.say(f"best: {board.best_line()}")
        if not board.best.whole:
            console.warn("no setting with a score has all its seeds: the best is preliminary")


def _remarks(setting: Setting, board: Leaderboard) -> list[str]:
    counts = {
        "failed": setting.failed,
        "diverged": setting.diverged,
        "pruned": setting.pruned,
        "unfinished": setting.unfinished,
        "stuck on one answer": setting.stuck,
    }
    remarks = [f"{count} {what}" for what, count in counts.items() if count]
    if setting is board.best:
        return [*remarks, "best"]
    word = setting.verdict.word if setting.verdict else ""
    known = {"noise": "within noise", "untested": "not tested" if setting.scores else ""}
    return [*remarks, *filter(None, [known.get(word)])]


def _show_failures(store: Store) -> int:
    """Show what failed or diverged, with reasons; returns how many failed."""
    several = several_configs([trial.record for trial in store.plan.trials])
    failed = 0
    for trial in store.plan.trials:
        outcome = store.outcomes[trial.record.fingerprint]
        failed += outcome.status == "failed"
        if outcome.status in {"failed", "diverged"}:
            text = f"{named(trial, several)} {outcome.status}: {outcome.reason}"
            console.warn(text, outcome.hint or "")
    if failed:
        console.note(f"{plural(failed, 'trial')} failed; the same command tries again")
    return failed


def _warn_edge(edge: Edge, board: Leaderboard, store: Store) -> None:
    combination = store.plan.trials[0].combination
    if edge.beyond is None or not in_range(combination, edge.key, edge.beyond):
        return
    side = "lowest" if edge.lowest else "highest"
    what = f"the best {short(edge.key)}, {show(edge.value)}, is the {side} that was tried"
    if len(board.configs) > 1 or len(board.keys) > 1:
        what += " with the best setting's other values"
    flag = f"{FLAGS[edge.key]} " if edge.key in FLAGS else f"--grid {edge.key}="
    others = {axis.key for axis in combination.axes} - {edge.key}
    beside = ", with the other lists" if others else ""
    beside = ", with the same seeds" if others == {SEED} else beside
    console.warn(what, f"try {flag}{show(edge.beyond)} too{beside}")


def _next(
    store: Store, boards: Sequence[Leaderboard], written: Sequence[Path], offline: str
) -> None:
    console.say(f"sweep: {store.folder}")
    for path in written:
        console.say(f"best setting: {path}")
    if not written:
        return
    console.note("next:")
    output = "" if store.output == Path("runs") else f" --output {shlex.quote(str(store.output))}"
    for path, board in zip(written, [b for b in boards if b.best is not None], strict=False):
        seeds = [record.seed for record in board.best.records] if board.best else [0]
        config = shlex.quote(str(path))
        console.note(f"  ptv2 train {config} --seed {max(seeds) + 1}{output}{offline}")


def several_configs(records: Sequence[TrialRecord]) -> bool:
    """Whether the trials come from more than one config."""
    return len({record.config for record in records}) > 1


def duration(seconds: float) -> str:
    """Seconds in a readable unit: `90 s`, `45 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def plural(count: int, word: str) -> str:
    """A number with its word: `1 trial`, `3 trials`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
