"""The best trial of a sweep, where a sweep's folder stands for a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ptv2_cli.errors import RunError
from ptv2_cli.run.directory import RunDirectory, find_by_fingerprint, open_run
from ptv2_cli.sweep.boards import Board, make_boards
from ptv2_cli.sweep.folder import PLAN, read_entries, read_outcomes


def open_named(path: Path) -> RunDirectory:
    """The run at `path`, or the best trial of the sweep whose folder it is.

    Raises:
        RunError: neither, or a sweep without one best trial.
    """
    return best_trial(path) if is_sweep(path) else open_run(path)


def is_sweep(path: Path) -> bool:
    """Whether `path` is a sweep's folder, such as runs/sweeps/NAME-1a2b3c4d."""
    return (path / PLAN).is_file()


def best_trial(folder: Path) -> RunDirectory:
    """The trial with the highest score among the seeds of the best setting.

    Raises:
        RunError: no trial has a score, or the sweep is of several tasks.
    """
    best = list(_best_trials(folder))
    if not best:
        hint = "the ptv2 sweep that made it goes on with it; or name a run"
        raise RunError.at(str(folder), "no trial of this sweep has a score", hint)
    if len(best) > 1:
        tasks = ", ".join(board.task for board, _ in best)
        names = ", ".join(str(run.path) for _, run in best)
        what = f"the sweep is of several tasks ({tasks}), each with a best trial"
        raise RunError.at(str(folder), what, f"name one of them: {names}")
    return best[0][1]


def sweeps_of(run: RunDirectory) -> list[Path]:
    """The sweeps beside a finished run that it is a trial of."""
    mark = run.read_metrics().get("fingerprint")
    found = []
    for plan in sorted((run.path.parent / "sweeps").glob(f"*/{PLAN}")):
        try:
            entries = read_entries(plan.parent)
        except RunError:  # whoever opens that sweep is told
            continue
        if any(entry.fingerprint == mark for entry in entries):
            found.append(plan.parent)
    return found


def _best_trials(folder: Path) -> Iterator[tuple[Board, RunDirectory]]:
    plain = len(folder.parts) > 2 and ".." not in folder.parts
    output = (folder if plain else folder.resolve()).parent.parent
    entries = read_entries(folder)
    outcomes = read_outcomes(folder, output, entries)
    for board in make_boards(entries, outcomes):
        sign = 1.0 if board.mode == "max" else -1.0
        values = {
            entry.fingerprint: sign * value
            for entry in (board.best.entries if board.best else ())
            if outcomes[entry.fingerprint].scored
            and (value := outcomes[entry.fingerprint].value) is not None
        }
        run = find_by_fingerprint(output, max(values, key=values.__getitem__)) if values else None
        if run is not None:
            yield board, run
