"""A sweep's own folder: plan.json, results.json, best.yaml."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ptv2_cli.config.fingerprint import dump_yaml
from ptv2_cli.config.load import load_config
from ptv2_cli.files import make_folder, remove_temporary, write_atomic
from ptv2_cli.runs.directory import find_by_fingerprint
from ptv2_cli.runs.results import write_json
from ptv2_cli.safe_text import visible
from ptv2_cli.sweeps.engine import TrialSpec
from ptv2_cli.sweeps.folder import (
    PLAN,
    RESULTS,
    SCHEMA_VERSION,
    read_outcomes,
    read_records,
)
from ptv2_cli.sweeps.leaderboard import Leaderboard, judged, make_boards
from ptv2_cli.sweeps.trial_record import DONE, Outcome, TrialRecord
from ptv2_cli.sweeps.trials import Plan, Trial


class Store:
    """Entries and outcomes of a sweep, those of earlier commands included.

    The run directories are the truth about what is finished; results.json adds what they do not
    say, which is why a trial failed.
    """

    def __init__(self, plan: Plan, output: Path) -> None:
        """Read what earlier commands left; write nothing.

        Raises:
            RunError: a file of the sweep's folder is damaged or of another version.
        """
        self.plan = plan
        self.output = output
        self.folder = output / "sweeps" / f"{plan.name}-{plan.fingerprint}"
        known = read_records(self.folder)
        self.records = _together(known, [trial.record for trial in plan.trials])
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
        return [trial.spec for trial in self.left() if trial.resolved_run is not None]

    def boards(self) -> list[Leaderboard]:
        """The tables of settings as they stand, earlier commands included."""
        return make_boards(self.records, self.outcomes)

    def judged_boards(self) -> list[Leaderboard]:
        """The tables with what their runs' predictions say of the settings beside the best."""
        return [judged(board, self.outcomes, self.output) for board in self.boards()]

    def begin(self) -> None:
        """Make the folder.

        Raises:
            RunError: it is a symbolic link.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        make_folder(self.folder.parent)
        make_folder(self.folder)

    def write_plan(self) -> None:
        """Write the plan, with what earlier commands planned; nobody else may be writing here."""
        remove_temporary(self.folder)
        trials = [asdict(record) for record in self.records]
        head = {"schema_version": SCHEMA_VERSION, "name": self.plan.name}
        keys = sorted({key for record in self.records for key in record.values})
        write_json(
            self.folder / PLAN,
            {**head, "fingerprint": self.plan.fingerprint, "keys": keys, "trials": trials},
        )

    def note(self, fingerprint: str, outcome: Outcome) -> None:
        """Remember how far a trial has come, on the disk too."""
        self.outcomes[fingerprint] = outcome
        self.save()

    def save(self, boards: Sequence[Leaderboard] | None = None) -> None:
        """Write results.json; `boards`: the tables as they stand unless given."""
        boards = self.boards() if boards is None else boards
        write_json(
            self.folder / RESULTS,
            {
                "schema_version": SCHEMA_VERSION,
                "trials": {mark: asdict(outcome) for mark, outcome in self.outcomes.items()},
                "boards": [board.content() for board in boards],
            },
        )

    def write_best(self, boards: Sequence[Leaderboard]) -> list[Path]:
        """The best setting of each board as a config; its seed is the first that has a score."""
        written = []
        for board in boards:
            if board.best is None:
                continue
            marks = [record.fingerprint for record in board.best.records]
            scored = (mark for mark in marks if self.outcomes[mark].scored)
            run = find_by_fingerprint(self.output, next(scored))
            if run is None:
                continue
            name = "best.yaml" if len(boards) == 1 else f"best-{_word(board.task)}.yaml"
            path = self.folder / name
            config = load_config(run.config).config.model_dump(mode="json")
            command = visible(f"ptv2 train {shlex.quote(str(path))}")
            best = visible(board.best_line())
            head = f"# {command}\n# The best setting of this sweep: {best}\n"
            write_atomic(path, (head + dump_yaml(config)).encode())
            written.append(path)
        return written


def _together(known: Sequence[TrialRecord], asked: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The records of earlier commands and of this one, each once, in the order of their coming.

    A trial that was refused before is one with the trial of the same values now.
    """
    records = list(known)
    for record in asked:
        at = next((i for i, other in enumerate(records) if _stands_for(other, record)), None)
        if at is None:
            records.append(record)
        else:
            records[at] = record
    return list({record.fingerprint: record for record in records}.values())


def _stands_for(known: TrialRecord, record: TrialRecord) -> bool:
    same = known.fingerprint == record.fingerprint
    return same or (known.refused and _said(known) == _said(record))


def _said(record: TrialRecord) -> tuple[str, Mapping[str, Any], int]:
    return (record.config, record.values, record.seed)


def _word(name: str) -> str:
    return name.rsplit("/", 1)[-1]
