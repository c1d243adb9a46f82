"""A sweep's folder as it lies on the disk: what was planned, and how far each trial is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptv2_cli.errors import RunError
from ptv2_cli.run.directory import RunDirectory, find_by_fingerprint
from ptv2_cli.sweep.entry import DONE, Entry, Outcome

SCHEMA_VERSION = 1
PLAN, RESULTS = "plan.json", "results.json"


def read_entries(folder: Path) -> list[Entry]:
    """The trials that plan.json holds; none where it is not there.

    Raises:
        RunError: it is damaged or of another version.
    """
    return [Entry.read(item) for item in _read(folder / PLAN).get("trials", [])]


def read_outcomes(folder: Path, output: Path, entries: list[Entry]) -> dict[str, Outcome]:
    """Fingerprint -> how far a trial is. Run directories say what is finished, not results.json.

    Raises:
        RunError: results.json or a run's metrics.json is damaged or of another version.
    """
    told = _read(folder / RESULTS).get("trials", {})
    return {
        entry.fingerprint: _outcome(output, entry, Outcome.read(told.get(entry.fingerprint, {})))
        for entry in entries
    }


def finished(run: RunDirectory, before: Outcome) -> Outcome:
    """The outcome of a run that has ended.

    Raises:
        RunError: its metrics.json is damaged or of another version.
    """
    metrics: Mapping[str, Any] = run.read_metrics()
    status = metrics["status"]
    assert status in DONE
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
    if run is not None and (run.checkpoints / "last.json").exists() and told.status != "failed":
        return Outcome("interrupted", run=run.path.name, attempts=told.attempts)
    if told.status == "failed":
        return told
    return Outcome("waiting", attempts=told.attempts)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        output = path.parent.parent.parent
        hint = f"delete it: rm {path}; finished runs stand in {output} and are found there"
        raise RunError.at(str(path), "is no file of a ptv2 sweep", hint) from None
    if version != SCHEMA_VERSION:
        what = f"has schema version {version}, this ptv2 reads {SCHEMA_VERSION}"
        raise RunError.at(str(path), what, "use the ptv2 that wrote it, or another --output")
    return dict(content)
