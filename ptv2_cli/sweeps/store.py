"""A sweep's folder: plan.json, results.json and best.yaml; and the best trial of a sweep."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptv2_cli.config.load import load_config
from ptv2_cli.errors import RunError
from ptv2_cli.files import make_folder, remove_temporary
from ptv2_cli.runs.directory import RunDirectory, find_by_fingerprint, open_run, write_config
from ptv2_cli.runs.results import write_json
from ptv2_cli.safe_text import visible
from ptv2_cli.sweeps.leaderboard import Leaderboard, judged, make_leaderboards
from ptv2_cli.sweeps.records import (
    DONE,
    PLAN,
    RESULTS,
    SCHEMA_VERSION,
    Outcome,
    TrialRecord,
    read_outcomes,
    read_records,
)

if TYPE_CHECKING:  # these import what readers of a sweep's folder do not need
    from ptv2_cli.sweeps.engine import TrialSpec
    from ptv2_cli.sweeps.trials import Plan, Trial


class Store:
    """The records and outcomes of a sweep, those of earlier commands included.

    What has finished is known from the run directories. results.json adds what they cannot say,
    such as why a trial failed.
    """

    def __init__(self, plan: Plan, output: Path) -> None:
        """Read what earlier commands left; write nothing.

        Raises:
            RunError: a file of the sweep's folder is damaged or of another version.
        """
        self.plan = plan
        self.output = output
        self.folder = output / "sweeps" / f"{plan.name}-{plan.fingerprint}"
        earlier = read_records(self.folder)
        self.records = _merged(earlier, [trial.record for trial in plan.trials])
        self.outcomes = read_outcomes(self.folder, output, self.records)

    def left(self) -> list[Trial]:
        """The trials of this command that have not ended."""
        return [
            trial
            for trial in self.plan.trials
            if self.outcomes[trial.record.fingerprint].status not in DONE
        ]

    def specs(self) -> list[TrialSpec]:
        """What is left for an engine to run."""
        return [self.spec(trial) for trial in self.left() if trial.resolved_run is not None]

    def spec(self, trial: Trial) -> TrialSpec:
        """A trial as an engine gets it, with the name of this sweep."""
        return replace(trial.spec, sweep=self.folder.name)

    def extend(self, trials: Sequence[Trial]) -> None:
        """Add trials to the plan, on the disk too; those that it has already stay."""
        known = {trial.record.fingerprint for trial in self.plan.trials}
        new = [trial for trial in trials if trial.record.fingerprint not in known]
        if new:
            records = [trial.record for trial in new]
            self.plan = replace(self.plan, trials=(*self.plan.trials, *new))
            self.records = _merged(self.records, records)
            unknown = [record for record in records if record.fingerprint not in self.outcomes]
            found = read_outcomes(self.folder, self.output, unknown)
            self.outcomes = {**self.outcomes, **found}
            self.write_plan()

    def leaderboards(self, *, tested: bool = False) -> list[Leaderboard]:
        """The tables of settings; `tested` compares each with the best by its predictions."""
        boards = make_leaderboards(self.records, self.outcomes)
        return [judged(board, self.outcomes, self.output) for board in boards] if tested else boards

    def begin(self) -> None:
        """Make the folder.

        Raises:
            RunError: it is a symbolic link.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        make_folder(self.folder.parent)
        make_folder(self.folder)

    def read_again(self) -> None:
        """Add what processes that share the sweep have written since.

        Raises:
            RunError: a file of the sweep's folder is damaged or of another version.
        """
        self.records = _merged(read_records(self.folder), self.records)
        written = read_outcomes(self.folder, self.output, self.records)
        self.outcomes = {**written, **self.outcomes}

    def write_plan(self, *, alone: bool = True) -> None:
        """Write plan.json, with the trials of earlier commands. Lock the folder before.

        Args:
            alone: whether nobody else writes in the folder, so that what a killed process has left
                there can be removed.
        """
        if alone:
            remove_temporary(self.folder)
        content = {
            "schema_version": SCHEMA_VERSION,
            "name": self.plan.name,
            "fingerprint": self.plan.fingerprint,
            "keys": sorted({key for record in self.records for key in record.values}),
            "trials": [asdict(record) for record in self.records],
        }
        write_json(self.folder / PLAN, content)

    def note(self, fingerprint: str, outcome: Outcome) -> None:
        """Record the outcome of a trial, on the disk too."""
        self.outcomes[fingerprint] = outcome
        self.save()

    def save(self, boards: Sequence[Leaderboard] | None = None) -> None:
        """Write results.json, with the leaderboards given or those of this moment."""
        boards = self.leaderboards() if boards is None else boards
        content = {
            "schema_version": SCHEMA_VERSION,
            "trials": {mark: asdict(outcome) for mark, outcome in self.outcomes.items()},
            "boards": [board.content() for board in boards],
        }
        write_json(self.folder / RESULTS, content)

    def write_best(self, boards: Sequence[Leaderboard]) -> list[Path]:
        """Write the best setting of each leaderboard as a config, with its first scored seed."""
        written = []
        for board in boards:
            if board.best is None:
                continue
            marks = (record.fingerprint for record in board.best.records)
            run = find_by_fingerprint(
                self.output, next(mark for mark in marks if self.outcomes[mark].scored)
            )
            if run is None:
                continue
            task = board.task.rsplit("/", 1)[-1]
            path = self.folder / ("best.yaml" if len(boards) == 1 else f"best-{task}.yaml")
            config = load_config(run.config).config.model_dump(mode="json")
            command = visible(f"ptv2 train {shlex.quote(str(path))}")
            best = visible(board.best_line())
            head = f"# {command}\n# The best setting of this sweep: {best}\n"
            write_config(path, config, head)
            written.append(path)
        return written


def _merged(earlier: Sequence[TrialRecord], now: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The records of earlier commands and of this one, each once, the earlier ones first.

    A trial that was refused before is replaced by the trial of the same values now.
    """
    records = list(earlier)
    for record in now:
        same = (i for i, other in enumerate(records) if _replaces(record, other))
        position = next(same, len(records))
        records[position : position + 1] = [record]
    return list({record.fingerprint: record for record in records}.values())


def _replaces(record: TrialRecord, earlier: TrialRecord) -> bool:
    def values(one: TrialRecord) -> tuple[str, Mapping[str, Any], int]:
        return one.config, one.values, one.seed

    same = record.fingerprint == earlier.fingerprint
    return same or (earlier.refused and values(record) == values(earlier))


def is_sweep(path: Path) -> bool:
    """Whether `path` is a sweep's folder, such as runs/sweeps/NAME-1a2b3c4d."""
    return (path / PLAN).is_file()


def open_named(path: Path) -> RunDirectory:
    """The run at `path`; for a sweep's folder its best trial.

    Raises:
        RunError: it is neither, or the sweep has no single best trial.
    """
    return best_trial(path) if is_sweep(path) else open_run(path)


def best_trial(folder: Path) -> RunDirectory:
    """The trial with the best score among the seeds of the best setting.

    Raises:
        RunError: no trial has a score, or the sweep has several tasks.
    """
    best = _best_trials(folder)
    if not best:
        hint = "continue the ptv2 sweep that made it, or name a run"
        raise RunError.at(str(folder), "no trial of this sweep has a score", hint)
    if len(best) > 1:
        tasks = ", ".join(task for task, _ in best)
        names = ", ".join(str(run.path) for _, run in best)
        what = f"the sweep has several tasks ({tasks}), each with its own best trial"
        raise RunError.at(str(folder), what, f"name one of them: {names}")
    return best[0][1]


def sweeps_of(run: RunDirectory) -> list[Path]:
    """The folders of the sweeps beside a finished run that it is a trial of."""
    mark = run.read_metrics().get("fingerprint")
    folders = []
    for plan in sorted((run.path.parent / "sweeps").glob(f"*/{PLAN}")):
        try:
            records = read_records(plan.parent)
        except RunError:  # opening that sweep reports it
            continue
        if any(record.fingerprint == mark for record in records):
            folders.append(plan.parent)
    return folders


def _best_trials(folder: Path) -> list[tuple[str, RunDirectory]]:
    """The best trial of each leaderboard, with its task."""
    plain = len(folder.parts) > 2 and ".." not in folder.parts
    output = (folder if plain else folder.resolve()).parent.parent
    records = read_records(folder)
    outcomes = read_outcomes(folder, output, records)
    best = []
    for board in make_leaderboards(records, outcomes):
        sign = 1.0 if board.mode == "max" else -1.0
        values = {
            record.fingerprint: sign * value
            for record in (board.best.records if board.best else ())
            if outcomes[record.fingerprint].scored
            and (value := outcomes[record.fingerprint].value) is not None
        }
        run = find_by_fingerprint(output, max(values, key=values.__getitem__)) if values else None
        if run is not None:
            best.append((board.task, run))
    return best
