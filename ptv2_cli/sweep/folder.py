"""A sweep's folder as it lies on the disk: what was planned, and how far each trial is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from ptv2_cli.run.directory import RunDirectory, find_by_fingerprint
from ptv2_cli.run.read_back import check, read_json
from ptv2_cli.sweep.entry import Entry, Outcome
from ptv2_cli.train.checkpoint import begun

SCHEMA_VERSION = 1
NO_SWEEP = "is no file of a ptv2 sweep"
PLAN, RESULTS = "plan.json", "results.json"
_T = TypeVar("_T")
_ENTRIES = TypeAdapter(list[Entry])
_OUTCOMES = TypeAdapter(dict[str, Outcome])


def read_entries(folder: Path) -> list[Entry]:
    """The trials that plan.json holds; none where it is not there.

    Raises:
        RunError: it is damaged or of another version.
    """
    return _read(folder / PLAN, _ENTRIES, "trials", [])


def read_outcomes(folder: Path, output: Path, entries: list[Entry]) -> dict[str, Outcome]:
    """Fingerprint -> how far a trial is. Run directories say what is finished, not results.json.

    Raises:
        RunError: results.json or a run's metrics.json is damaged or of another version.
    """
    told = _read(folder / RESULTS, _OUTCOMES, "trials", {})
    return {
        entry.fingerprint: _outcome(output, entry, told.get(entry.fingerprint, Outcome()))
        for entry in entries
    }


def finished(run: RunDirectory, before: Outcome) -> Outcome:
    """The outcome of a run that has ended.

    Raises:
        RunError: its metrics.json is damaged or of another version.
    """
    metrics: Mapping[str, Any] = run.read_metrics()
    status = metrics["status"]
    reason = hint = None
    if status == "diverged":
        reason = "the loss is no longer finite"
        hint = f"lower train.lr (now {metrics['config']['train']['lr']:g})"
    return Outcome(
        status,
        value=metrics["selection"]["value"],
        run=run.path.name,
        seconds=metrics["timing"]["train_seconds"],
        reason=reason,
        hint=hint,
        attempts=before.attempts,
    )


def _outcome(output: Path, entry: Entry, told: Outcome) -> Outcome:
    """What the run directory says, else what was noted; nothing runs any more."""
    run = find_by_fingerprint(output, entry.fingerprint)
    if run is not None and run.finished:
        return finished(run, told)
    if run is not None and begun(run.checkpoints) and told.status != "failed":
        return Outcome("interrupted", run=run.path.name, attempts=told.attempts)
    if told.status == "failed":
        return told
    return Outcome("waiting", attempts=told.attempts)


def _read(path: Path, types: TypeAdapter[_T], key: str, without: _T) -> _T:
    """What a file of the sweep's folder holds under a key; `without` where it is not there."""
    output = path.parent.parent.parent
    hint = f"delete it: rm {path}; finished runs stand in {output} and are found there"
    try:
        content = read_json(path, SCHEMA_VERSION, NO_SWEEP, hint)
    except FileNotFoundError:
        return without
    return check(types, content.get(key, without), path, NO_SWEEP, hint)
