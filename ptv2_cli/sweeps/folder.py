"""A sweep's folder as it lies on the disk: what was planned, and how far each trial is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from ptv2_cli.errors import RunError
from ptv2_cli.runs.directory import RunDirectory, find_by_fingerprint, open_run
from ptv2_cli.runs.read_back import check, read_json
from ptv2_cli.sweeps.leaderboard import Leaderboard, make_boards
from ptv2_cli.sweeps.trial_record import Outcome, TrialRecord
from ptv2_cli.training.checkpoint import begun

SCHEMA_VERSION = 1
NO_SWEEP = "is no file of a ptv2 sweep"
PLAN, RESULTS = "plan.json", "results.json"
_T = TypeVar("_T")
_RECORDS = TypeAdapter(list[TrialRecord])
_OUTCOMES = TypeAdapter(dict[str, Outcome])


def read_records(folder: Path) -> list[TrialRecord]:
    """The trials that plan.json holds; none where it is not there.

    Raises:
        RunError: it is damaged or of another version.
    """
    return _read(folder / PLAN, _RECORDS, "trials", [])


def read_outcomes(folder: Path, output: Path, records: list[TrialRecord]) -> dict[str, Outcome]:
    """Fingerprint -> how far a trial is. Run directories say what is finished, not results.json.

    Raises:
        RunError: results.json or a run's metrics.json is damaged or of another version.
    """
    told = _read(folder / RESULTS, _OUTCOMES, "trials", {})
    return {
        record.fingerprint: _outcome(output, record, told.get(record.fingerprint, Outcome()))
        for record in records
    }


def outcome_of(run: RunDirectory) -> Outcome:
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
    )


def _outcome(output: Path, record: TrialRecord, told: Outcome) -> Outcome:
    """What the run directory says, else what was noted; nothing runs any more."""
    run = find_by_fingerprint(output, record.fingerprint)
    if run is not None and run.finished:
        return replace(outcome_of(run), attempts=told.attempts)
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
            records = read_records(plan.parent)
        except RunError:  # whoever opens that sweep is told
            continue
        if any(record.fingerprint == mark for record in records):
            found.append(plan.parent)
    return found


def _best_trials(folder: Path) -> Iterator[tuple[Leaderboard, RunDirectory]]:
    plain = len(folder.parts) > 2 and ".." not in folder.parts
    output = (folder if plain else folder.resolve()).parent.parent
    records = read_records(folder)
    outcomes = read_outcomes(folder, output, records)
    for board in make_boards(records, outcomes):
        sign = 1.0 if board.mode == "max" else -1.0
        values = {
            record.fingerprint: sign * value
            for record in (board.best.records if board.best else ())
            if outcomes[record.fingerprint].scored
            and (value := outcomes[record.fingerprint].value) is not None
        }
        run = find_by_fingerprint(output, max(values, key=values.__getitem__)) if values else None
        if run is not None:
            yield board, run
