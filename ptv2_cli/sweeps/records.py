"""What a sweep's folder records: its trials in plan.json, how each ended in results.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter

from ptv2_cli.errors import Problem
from ptv2_cli.runs.directory import RunDirectory, find_by_fingerprint
from ptv2_cli.runs.run_files import check, read_json
from ptv2_cli.training.checkpoint import resumable

SCHEMA_VERSION = 1
PLAN, RESULTS = "plan.json", "results.json"
NO_SWEEP = "is no file of a ptv2 sweep"
Status = Literal[
    "waiting", "running", "interrupted", "finished", "early_stopped", "diverged", "pruned", "failed"
]
ENDED = frozenset({"finished", "early_stopped", "diverged"})
"""The run has ended and has written its metrics.json."""
DONE = ENDED | {"pruned"}
"""The same command does not train it again: the run has ended, or a search has given it up."""
SCORED = frozenset({"finished", "early_stopped"})
"""The run's score counts in the table; a diverged run is shown with its reason."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class TrialRecord:
    """What plan.json says of a trial."""

    fingerprint: str
    setting: str
    """Fingerprint of everything but the seed: equal for the trials that are averaged."""
    config: str
    """Name of its config."""
    values: Mapping[str, Any]
    """Swept key -> value, without the seed."""
    seed: int
    task: str
    split: str
    metric: str | None
    mode: str
    refused: bool = False
    """It cannot run, so its fingerprint is that of the config as written."""


@dataclass(frozen=True)
class Outcome:
    """What results.json says of a trial: its status, and its score or the reason of a failure."""

    status: Status = "waiting"
    value: float | None = None
    """Selection metric at the chosen epoch, a fraction."""
    run: str | None = None
    """Name of its run directory in the output folder."""
    seconds: float | None = None
    """Training time, over all starts."""
    reason: str | None = None
    hint: str | None = None
    attempts: int = 0
    """How many starts failed, over all commands."""
    traceback: str | None = field(default=None, repr=False)
    """Of a defect."""

    @classmethod
    def failed(cls, problem: Problem, run: str | None = None) -> Outcome:
        """The outcome of a trial that one problem stopped."""
        where = f"{problem.where}: " if problem.where else ""
        return cls("failed", run=run, reason=f"{where}{problem.what}", hint=problem.hint)

    @classmethod
    def of_run(cls, run: RunDirectory) -> Outcome:
        """The outcome of a run that has ended.

        Raises:
            RunError: its metrics.json is damaged or of another version.
        """
        metrics = run.read_metrics()
        outcome = cls(
            metrics["status"],
            value=metrics["selection"]["value"],
            run=run.path.name,
            seconds=metrics["timing"]["train_seconds"],
        )
        if outcome.status != "diverged":
            return outcome
        lr = metrics.get("lr", metrics["config"]["train"]["lr"])
        hint = f"lower train.lr (now {lr:g})"
        return replace(outcome, reason="the loss is no longer finite", hint=hint)

    @classmethod
    def pruned(cls, run: RunDirectory, metric: str, mode: str) -> Outcome:
        """The outcome of a run that was set aside: saved, unfinished and without metrics.json.

        Its value is the best until then.

        Raises:
            RunError: its history.jsonl is missing or damaged.
        """
        lines = run.read_history()
        values = [line["metrics"].get(metric, math.nan) for line in lines]
        known = [value for value in values if not math.isnan(value)]
        better = max if mode == "max" else min
        return cls(
            "pruned",
            value=better(known, default=None),
            run=run.path.name,
            seconds=lines[-1]["train_seconds"] if lines else None,
        )

    @property
    def done(self) -> bool:
        """Whether the same command does not train it again."""
        return self.status in DONE

    @property
    def scored(self) -> bool:
        """Whether its value counts in the table."""
        return self.status in SCORED and self.value is not None


_RECORDS = TypeAdapter(list[TrialRecord])
_OUTCOMES = TypeAdapter(dict[str, Outcome])


def read_records(folder: Path) -> list[TrialRecord]:
    """The trials of plan.json; none where there is no such file.

    Raises:
        RunError: it is damaged or of another version.
    """
    return _read(folder / PLAN, _RECORDS, [])


def read_outcomes(folder: Path, output: Path, records: Sequence[TrialRecord]) -> dict[str, Outcome]:
    """Fingerprint -> outcome. The run directories say what has finished; results.json, what failed.

    Raises:
        RunError: results.json or a run's metrics.json is damaged or of another version.
    """
    written = _read(folder / RESULTS, _OUTCOMES, {})
    return {
        record.fingerprint: _outcome(output, record, written.get(record.fingerprint, Outcome()))
        for record in records
    }


def _outcome(output: Path, record: TrialRecord, written: Outcome) -> Outcome:
    run = find_by_fingerprint(output, record.fingerprint)
    if run is not None and run.finished:
        return replace(Outcome.of_run(run), attempts=written.attempts)
    if written.status in {"failed", "pruned"}:
        return written
    if run is not None and resumable(run.checkpoints):
        return Outcome("interrupted", run=run.path.name, attempts=written.attempts)
    return Outcome("waiting", attempts=written.attempts)


def _read(path: Path, types: TypeAdapter[_T], default: _T) -> _T:
    """The `trials` of one file of a sweep's folder; the default where there is no such file."""
    output = path.parent.parent.parent
    hint = f"delete it: rm {path}; the finished runs in {output} are not lost"
    try:
        content = read_json(path, SCHEMA_VERSION, NO_SWEEP, hint)
    except FileNotFoundError:
        return default
    return check(types, content.get("trials", default), path, NO_SWEEP, hint)
