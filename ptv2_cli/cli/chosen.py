"""The run that a command works on: the one named, a sweep's best trial, or the newest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptv2_cli.cli import console

CONFIG = Path("config.yaml")
"""What is trained where no config is named."""

if TYPE_CHECKING:
    from ptv2_cli.runs.directory import RunDirectory


def chosen_run(path: Path) -> RunDirectory:
    """The run named, a sweep's folder standing for its best trial, which is said.

    Raises:
        RunError: there is no such run.
    """
    from ptv2_cli.sweeps.store import is_sweep, open_named

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
    """What to type where there is no finished run yet, or no config.yaml: what is there decides."""
    from ptv2_cli.runs.inventory import interrupted

    left = [f"{kept.run.resume_hint} (it was interrupted)" for kept in interrupted(output)[:1]]
    if CONFIG.is_file():
        return "; ".join([*left, "ptv2 train trains config.yaml; or name a run's folder"])
    return "; ".join([*left, "ptv2 init writes a config.yaml, ptv2 train CONFIG trains one"])


def require_config(path: Path) -> None:
    """The config.yaml of this folder, which is meant where no config is named, is there.

    Raises:
        ConfigError: it is not; the message says what can be done here.
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
    except RunError:  # it has no one best trial: of several tasks, for instance
        console.note(f"it is a trial of the sweep {sweep}")
        return
    if best.path == run.path:
        console.note(f"it is the best trial of the sweep {sweep}")
        return
    console.note(f"it is a trial of the sweep {sweep}, whose best is {best.path}")
    console.note(f"  -> {name_it} {sweep} takes the best; best.yaml there is its setting")
