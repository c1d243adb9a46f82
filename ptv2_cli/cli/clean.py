"""`ptv2 clean`: remove unfinished and duplicate runs, after showing them and asking."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptv2_cli.cli import console

if TYPE_CHECKING:
    from ptv2_cli.runs.inventory import Kept


def clean(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of runs.", show_default=True)
    ] = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> int:
    """Remove unfinished and duplicate runs after showing them."""
    from ptv2_cli.cli.listing import age, size
    from ptv2_cli.errors import EXIT_DEFECT, InputError
    from ptv2_cli.runs.inventory import copies, runs_in

    found = runs_in(folder)
    double, busy = copies(found), _of_running_sweeps(folder)
    reasons = {kept.run.path: _reason(kept, double, busy) for kept in found}
    chosen = [kept for kept in found if reasons[kept.run.path]]
    left = sum(kept.state == "training" for kept in found)
    if left:
        console.note(f"{_runs(left)} being trained now: kept")
    if not chosen:
        console.say(f"nothing to remove in {folder}: no unfinished and no duplicate run")
        return 0
    rows = [
        (kept.run.path.name, reasons[kept.run.path], age(kept.changed), size(kept.size))
        for kept in chosen
    ]
    console.table("", ("run", "why", "age", "size"), rows)
    console.say(f"{_runs(len(chosen))} in {folder.resolve()}, {size(_total(chosen))}")
    if not yes:
        if not console.can_ask():
            hint = "add --yes to remove them"
            raise InputError.at("ptv2 clean", "no terminal to ask on: nothing removed", hint)
        if console.ask("remove them? yes or no", "no").lower() not in {"y", "yes"}:
            console.say("nothing removed")
            return 0
    gone = [kept for kept in chosen if _removed(kept)]
    console.say(f"removed {_runs(len(gone))}, {size(_total(gone))}")
    return 0 if len(gone) == len(chosen) else EXIT_DEFECT


def _reason(kept: Kept, double: dict[Path, Path], busy: set[str]) -> str:
    """Why a run may be removed; empty: it is kept."""
    if kept.run.path in double:
        return f"the same run as {double[kept.run.path].name}"
    # A folder whose name ptv2 did not give belongs to the user.
    if kept.state == "interrupted" and kept.fingerprint and kept.fingerprint not in busy:
        return "unfinished"
    return ""


def _of_running_sweeps(folder: Path) -> set[str]:
    """Fingerprints of the trials of running sweeps, which will continue with them."""
    from ptv2_cli.errors import RunError
    from ptv2_cli.runs.lock import in_use
    from ptv2_cli.sweeps.records import PLAN, read_records

    marks: set[str] = set()
    for plan in (folder / "sweeps").glob(f"*/{PLAN}"):
        try:
            marks |= {e.fingerprint for e in read_records(plan.parent) if in_use(plan.parent)}
        except RunError:  # no running sweep has a damaged plan
            continue
    return marks


def _removed(kept: Kept) -> bool:
    """Remove a run, locked so that no process starts to train it; whether that worked."""
    from ptv2_cli.errors import RunError
    from ptv2_cli.runs.lock import LOCK, locked, unlocked_warning

    path = kept.run.path
    try:
        with locked(path) as alone:
            if not alone and kept.state == "interrupted":
                console.warn(f"{unlocked_warning(path)}; it is kept")
                return False
            if kept.state == "interrupted" and kept.run.finished:
                console.warn(f"{path}: has finished meanwhile, and is kept")
                return False
            for inner in path.iterdir():
                if inner.is_dir() and not inner.is_symlink():
                    shutil.rmtree(inner)  # removes links in it, not their targets
                elif inner.name != LOCK:  # Windows removes no open file
                    inner.unlink()
        path.rmdir()
    except RunError as error:
        console.warn(str(error.problems[0].where) + ": " + error.problems[0].what)
        return False
    except OSError as error:
        console.warn(f"{path}: cannot be removed: {error.strerror}")
        return False
    return True


def _total(runs: list[Kept]) -> int:
    return sum(kept.size for kept in runs)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
