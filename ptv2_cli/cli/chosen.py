"""The run that a command works on: the one named, a sweep's best trial, or the newest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptv2_cli.cli import console

CONFIG = Path("config.yaml")
"""The config of commands that name none."""

if TYPE_CHECKING:
    from ptv2_cli.runs.directory import RunDirectory


def chosen_run(path: Path) -> RunDirectory:
    """The run of this name; for a sweep's folder its best trial, which is printed.

    Raises:
        RunError: there is no such run.
    """
    from ptv2_cli.sweeps.store import is_sweep, open_named

    run = open_named(path)
    if is_sweep(path):
        console.note(f"best trial of {path}: {run.path}")
    return run


def chosen_or_newest(run: Path | None, output: Path, name_it: str) -> RunDirectory:
    """The run that is named, else the newest one; see `chosen_run` and `newest_run`."""
    return newest_run(output, name_it) if run is None else chosen_run(run)


def newest_run(output: Path, name_it: str) -> RunDirectory:
    """The newest finished run under `output`; it is printed, with the sweep that it belongs to.

    Args:
        output: the folder of runs.
        name_it: what the user types before the name of another run: `--run`.

    Raises:
        RunError: there is none.
    """
    from ptv2_cli.errors import RunError
    from ptv2_cli.runs.directory import newest_finished
    from ptv2_cli.runs.inventory import interrupted
    from ptv2_cli.sweeps.store import sweeps_of

    try:
        run = newest_finished(output)
    except RunError as error:
        raise RunError.at(str(output), error.problems[0].what, to_begin(output)) from None
    console.note(f"newest finished run: {run.path}")
    for left in interrupted(output)[:1]:
        if left.changed > run.metrics.stat().st_mtime:
            console.note(f"interrupted since then: {left.run.path}; {left.run.resume_hint}")
    for sweep in sweeps_of(run):
        _tell(run, sweep, name_it)
    return run


def to_begin(output: Path = Path("runs")) -> str:
    """What to type if there is no finished run, or no config.yaml; it depends on the folder."""
    from ptv2_cli.runs.inventory import interrupted

    left = [f"{kept.run.resume_hint} (it was interrupted)" for kept in interrupted(output)[:1]]
    if CONFIG.is_file():
        return "; ".join([*left, "ptv2 train trains config.yaml; or name the folder of a run"])
    return "; ".join([*left, "ptv2 init writes a config.yaml, ptv2 train CONFIG trains it"])


def require_config(path: Path) -> None:
    """Check that the default config.yaml exists, if it is the one to read.

    Raises:
        ConfigError: it does not; the message says what to do in this folder.
    """
    from ptv2_cli.errors import ConfigError

    if path == CONFIG and not path.exists():
        others = sorted(str(file) for file in Path().glob("*.y*ml"))[:8]
        hint = f"{to_begin()}; ptv2 list configs shows recipes"
        hint += f"; here are {', '.join(others)}" if others else ""
        raise ConfigError.at(str(path), "there is no such config file", hint)


def _tell(run: RunDirectory, sweep: Path, name_it: str) -> None:
    from ptv2_cli.errors import RunError
    from ptv2_cli.sweeps.store import best_trial

    try:
        best = best_trial(sweep)
    except RunError:  # there is no single best trial, for instance with several tasks
        console.note(f"it is a trial of the sweep {sweep}")
        return
    if best.path == run.path:
        console.note(f"it is the best trial of the sweep {sweep}")
        return
    console.note(f"it is a trial of the sweep {sweep}, whose best is {best.path}")
    console.note(f"  -> {name_it} {sweep} uses the best; best.yaml there holds its setting")
