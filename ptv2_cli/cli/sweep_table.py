"""What `ptv2 sweep` says before it begins and when it is done."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ptv2_cli.cli import console
from ptv2_cli.cli.summary import percent
from ptv2_cli.config.overrides import FLAGS
from ptv2_cli.errors import EXIT_DEFECT
from ptv2_cli.report.noise import LEVEL
from ptv2_cli.report.text_table import p_value
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.sweeps.axes import SEED
from ptv2_cli.sweeps.capacity import Group
from ptv2_cli.sweeps.compatibility import groups
from ptv2_cli.sweeps.lane_count import Asked
from ptv2_cli.sweeps.leaderboard import Board, Edge, Setting, short, show
from ptv2_cli.sweeps.plan import in_range
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trial_record import DONE, Entry
from ptv2_cli.sweeps.trials import Trial

_STATES = {
    "waiting": "to do",
    "running": "to do",
    "interrupted": "to continue",
    "finished": "finished",
    "early_stopped": "finished",
    "diverged": "diverged",
    "failed": "failed before, tried again",
}


def named(trial: Trial, many: bool) -> str:
    """A trial as one line says it: `prompt_len 20, lr 0.005, seed 11`."""
    entry = trial.entry
    words = [entry.config] if many or not entry.values else []
    words += [f"{short(key)} {show(value)}" for key, value in entry.values.items()]
    return ", ".join([*words, f"seed {entry.seed}"])


def state(store: Store, trial: Trial) -> str:
    """How far a trial is, before the sweep begins."""
    if trial.resolved_run is None:
        return "cannot run"
    return _STATES[store.outcomes[trial.entry.fingerprint].status]


def show_plan(store: Store, *, every: bool) -> None:
    """The number of trials and their states; with `every`, a line for each."""
    prepared = store.prepared
    counts = Counter(state(store, trial) for trial in prepared.trials)
    parts = ", ".join(f"{count} {what}" for what, count in counts.items())
    merged = _plural(prepared.merged, "duplicate")
    note = f" ({merged} merged: equal runs)" if prepared.merged else ""
    say = console.say if every else console.note
    say(f"sweep {store.folder}: {_plural(len(prepared.trials), 'trial')}{note}: {parts}")
    several = several_configs([trial.entry for trial in prepared.trials])
    if every:
        rows = [
            (str(number), named(trial, several), state(store, trial))
            for number, trial in enumerate(prepared.trials, 1)
        ]
        console.table("", ("trial", "values", "state"), rows)
    for trial in prepared.trials:
        for problem in trial.refusal[:1]:
            console.warn(f"{named(trial, several)} cannot run: {problem.what}", problem.hint)
    asked = {trial.entry.fingerprint for trial in prepared.trials}
    others = [entry for entry in store.entries if entry.fingerprint not in asked]
    if others:
        left = sum(store.outcomes[entry.fingerprint].status not in DONE for entry in others)
        text = f"with {_plural(len(others), 'trial')} of earlier commands"
        say(f"{text}, {left} of them not finished and not run now" if left else text)


def show_groups(found: Sequence[Group], asked: Asked, *, every: bool) -> None:
    """How many of the trials left are lanes of one backbone, or could be."""
    trials = [trial for group in found for trial in group.trials if trial.resolved_run is not None]
    if asked.where:
        shared = [group for group in found if group.places > 1]
        lines = [
            f"{_plural(len(group.trials), 'trial')} on one backbone, {group.places} at once"
            + (f": {group.faster:.1f} times as fast as one by one" if group.faster else "")
            for group in shared
        ]
        if not shared and trials and asked.count != 1:
            lines = [f"lanes {asked.count}: {_why_alone(trials)}"]
    else:
        sizes = [len(group) for group in groups(trials) if len(group) > 1]
        several = "one backbone" if len(sizes) == 1 else f"{len(sizes)} backbones"
        text = f"{sum(sizes)} of {_plural(len(trials), 'trial')} can share {several}: --lanes auto"
        lines = [text] if sizes else []
    for line in lines:
        (console.say if every else console.note)(line)


def _why_alone(trials: Sequence[Trial]) -> str:
    """Why trials run one by one though lanes were asked for."""
    if all(len(group) == 1 for group in groups(trials)):
        return "no two trials can share a backbone, they run one by one"
    return "more at once would be no faster here, they run one by one on one backbone"


def show_estimate(
    resolved_runs: Sequence[ResolvedRun], seconds: Sequence[float] | None, found: Sequence[Group]
) -> None:
    """How long it may take."""
    if not resolved_runs:
        return
    if seconds is None:
        console.note("no estimate of the time: no trial could be timed")
        return
    took = {item.fingerprint: own for item, own in zip(resolved_runs, seconds, strict=True)}
    total = sum(
        took[trial.resolved_run.fingerprint] / (group.faster or 1.0)
        for group in found
        for trial in group.trials
        if trial.resolved_run is not None
    )
    text = f"about {duration(total)}: an estimate from a few timed steps"
    if any(item.resolved.config.train.early_stopping for item in resolved_runs):
        text += "; early stopping may make it less"
    console.note(text)


def show_results(store: Store, *, offline: bool = False) -> int:
    """The tables of settings, the best as a config, what failed; the command's exit code."""
    boards = store.judged_boards()
    store.save(boards)
    written = store.write_best(boards)
    for board in boards:
        _show_board(board)
    failed = _show_failures(store)
    for board in boards:
        for edge in board.edges():
            _warn_edge(edge, board, store)
    _next(store, boards, written, " --offline" if offline else "")
    return EXIT_DEFECT if failed else 0


def _show_board(board: Board) -> None:
    columns = ["config"] if len(board.configs) > 1 else []
    columns += [short(key) for key in board.keys] or ([] if columns else ["config"])
    tested = any(setting.verdict and setting.verdict.p is not None for setting in board.settings)
    rows = []
    for setting in board.ranked:
        cells = board.cells(setting) or [setting.entries[0].config]
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
            console.warn("the best setting has not all its seeds, nor has any other with a score")


def _remarks(setting: Setting, board: Board) -> list[str]:
    counts = {
        "failed": setting.failed,
        "diverged": setting.diverged,
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
    """What failed or diverged, each with its reason; how many failed."""
    several = several_configs([trial.entry for trial in store.prepared.trials])
    failed = 0
    for trial in store.prepared.trials:
        outcome = store.outcomes[trial.entry.fingerprint]
        failed += outcome.status == "failed"
        if outcome.status in {"failed", "diverged"}:
            text = f"{named(trial, several)} {outcome.status}: {outcome.reason}"
            console.warn(text, outcome.hint or "")
    if failed:
        console.note(f"{_plural(failed, 'trial')} failed; the same command tries once more")
    return failed


def _warn_edge(edge: Edge, board: Board, store: Store) -> None:
    candidate = store.prepared.trials[0].candidate
    if edge.beyond is None or not in_range(candidate, edge.key, edge.beyond):
        return
    side = "lowest" if edge.lowest else "highest"
    what = f"the best {short(edge.key)}, {show(edge.value)}, is the {side} that was tried"
    if len(board.configs) > 1 or len(board.keys) > 1:
        what += " with the best setting's other values"
    flag = f"{FLAGS[edge.key]} " if edge.key in FLAGS else f"--grid {edge.key}="
    others = {axis.key for axis in candidate.axes} - {edge.key}
    beside = ", beside the other lists" if others else ""
    beside = ", with the same seeds" if others == {SEED} else beside
    console.warn(what, f"try {flag}{show(edge.beyond)} too{beside}")


def _next(store: Store, boards: Sequence[Board], written: Sequence[Path], offline: str) -> None:
    console.say(f"sweep: {store.folder}")
    for path in written:
        console.say(f"best setting: {path}")
    if not written:
        return
    console.note("next:")
    output = "" if store.output == Path("runs") else f" --output {shlex.quote(str(store.output))}"
    for path, board in zip(written, [b for b in boards if b.best is not None], strict=False):
        seeds = [entry.seed for entry in board.best.entries] if board.best else [0]
        config = shlex.quote(str(path))
        console.note(f"  ptv2 train {config} --seed {max(seeds) + 1}{output}{offline}")


def several_configs(entries: Sequence[Entry]) -> bool:
    """Whether the trials come from more than one config."""
    return len({entry.config for entry in entries}) > 1


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
