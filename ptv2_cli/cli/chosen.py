"""The run that a command works on: the one named, a sweep's best trial, or the newest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptv2_cli.cli import console

if TYPE_CHECKING:
    from ptv2_cli.run.directory import RunDirectory


def chosen_run(path: Path) -> RunDirectory:
    """The run named, a sweep's folder standing for its best trial, which is said.

    Raises:
        RunError: there is no such run.
    """
    from ptv2_cli.sweep.best import is_sweep, open_named

    run = open_named(path)
    if is_sweep(path):
        console.note(f"best trial of {path}: {run.path}")
    return run


def newest_run(output: Path, name_it: str) -> RunDirectory:
    """The newest finished run under `output`; it is said, and which sweep it is a trial of.

    Args:
        output: the folder of runs.
        name_it: what is typed before the name of another run: `--run`.

    Raises:
        RunError: there is none.
    """
    from ptv2_cli.run.directory import newest_finished
    from ptv2_cli.sweep.best import sweeps_of

    run = newest_finished(output)
    console.note(f"newest finished run: {run.path}")
    for sweep in sweeps_of(run):
        _tell(run, sweep, name_it)
    return run


def _tell(run: RunDirectory, sweep: Path, name_it: str) -> None:
    from ptv2_cli.errors import RunError
    from ptv2_cli.sweep.best import best_trial

    try:
        best = best_trial(sweep)
    except RunError:  # it has no one best trial: of several tasks, for instance
        console.note(f"it is a trial of the sweep {sweep}")
        return
    if best.path == run.path:
        console.note(f"it is the best trial of the sweep {sweep}")
        return
    console.note(f"it is a trial of the sweep {sweep}, whose best is {best.path}")
    console.note(f"  -> {name_it} {sweep} takes the best; best.yaml there is its setting")
