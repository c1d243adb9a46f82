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
from ptv2_cli.sweeps.folder import (
    PLAN,
    RESULTS,
    SCHEMA_VERSION,
    read_entries,
    read_outcomes,
)
from ptv2_cli.sweeps.leaderboard import Board, judged, make_boards
from ptv2_cli.sweeps.trial_record import DONE, Entry, Outcome
from ptv2_cli.sweeps.trials import Prepared, Trial


class Store:
    """Entries and outcomes of a sweep, those of earlier commands included.

    The run directories are the truth about what is finished; results.json adds what they do not
    say, which is why a trial failed.
    """

    def __init__(self, prepared: Prepared, output: Path) -> None:
        """Read what earlier commands left; write nothing.

        Raises:
            RunError: a file of the sweep's folder is damaged or of another version.
        """
        self.prepared = prepared
        self.output = output
        self.folder = output / "sweeps" / f"{prepared.name}-{prepared.fingerprint}"
        known = read_entries(self.folder)
        self.entries = _together(known, [trial.entry for trial in prepared.trials])
        self.outcomes = read_outcomes(self.folder, output, self.entries)

    @property
    def plan(self) -> Path:
        """The trials."""
        return self.folder / PLAN

    @property
    def results(self) -> Path:
        """How they ended, and the table of settings."""
        return self.folder / RESULTS

    def left(self) -> list[Trial]:
        """The trials of this command that have not ended."""
        return [
            trial
            for trial in self.prepared.trials
            if self.outcomes[trial.entry.fingerprint].status not in DONE
        ]

    def boards(self) -> list[Board]:
        """The tables of settings as they stand, earlier commands included."""
        return make_boards(self.entries, self.outcomes)

    def judged_boards(self) -> list[Board]:
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
        trials = [asdict(entry) for entry in self.entries]
        head = {"schema_version": SCHEMA_VERSION, "name": self.prepared.name}
        keys = sorted({key for entry in self.entries for key in entry.values})
        write_json(
            self.plan,
            {**head, "fingerprint": self.prepared.fingerprint, "keys": keys, "trials": trials},
        )

    def note(self, fingerprint: str, outcome: Outcome) -> None:
        """Remember how far a trial has come, on the disk too."""
        self.outcomes[fingerprint] = outcome
        self.save()

    def save(self, boards: Sequence[Board] | None = None) -> None:
        """Write results.json; `boards`: the tables as they stand unless given."""
        boards = self.boards() if boards is None else boards
        write_json(
            self.results,
            {
                "schema_version": SCHEMA_VERSION,
                "trials": {mark: asdict(outcome) for mark, outcome in self.outcomes.items()},
                "boards": [board.content() for board in boards],
            },
        )

    def write_best(self, boards: Sequence[Board]) -> list[Path]:
        """The best setting of each board as a config; its seed is the first that has a score."""
        written = []
        for board in boards:
            if board.best is None:
                continue
            marks = [entry.fingerprint for entry in board.best.entries]
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


def _together(known: Sequence[Entry], asked: Sequence[Entry]) -> list[Entry]:
    """The entries of earlier commands and of this one, each once, in the order of their coming.

    A trial that was refused before is one with the trial of the same values now.
    """
    entries = list(known)
    for entry in asked:
        at = next((i for i, other in enumerate(entries) if _stands_for(other, entry)), None)
        if at is None:
            entries.append(entry)
        else:
            entries[at] = entry
    return list({entry.fingerprint: entry for entry in entries}.values())


def _stands_for(known: Entry, entry: Entry) -> bool:
    same = known.fingerprint == entry.fingerprint
    return same or (known.refused and _said(known) == _said(entry))


def _said(entry: Entry) -> tuple[str, Mapping[str, Any], int]:
    return (entry.config, entry.values, entry.seed)


def _word(name: str) -> str:
    return name.rsplit("/", 1)[-1]
