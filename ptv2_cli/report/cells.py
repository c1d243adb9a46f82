"""The cells of a report: rows of methods and settings, columns of tasks, means over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ptv2_cli.report.noise import Verdict
from ptv2_cli.report.runs import ReportedRun


class TaskColumn(NamedTuple):
    """One task, as it was scored: runs that can be compared stand in one column."""

    task: str
    split: str
    metric: str
    sha256: str
    rows: int | None


LEFT_OUT = ("method.", "train.", "task.")
"""Sections that a setting does not name; `head.lr` without its section would be taken for
`train.lr`."""


class RowKey(NamedTuple):
    """A method, its prompt length, and the settings in which it differs from similar rows."""

    backbone: str
    method: str
    prompt_len: int | None
    keys: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    @property
    def setting(self) -> str:
        """`lr 0.01, limit.train 300`: keys without their section where that is clear."""
        short = [key.partition(".")[2] if key.startswith(LEFT_OUT) else key for key in self.keys]
        names = [
            key if short.count(own) > 1 else own for own, key in zip(short, self.keys, strict=True)
        ]
        return ", ".join(f"{n} {value}" for n, value in zip(names, self.values, strict=True))


@dataclass(frozen=True)
class Cell:
    """The runs of one row and column, which differ by their seed alone."""

    column: TaskColumn
    runs: tuple[ReportedRun, ...]
    verdict: Verdict | None = None
    """Its test against the best of its column; None if the column has no other."""

    @cached_property
    def scored(self) -> tuple[ReportedRun, ...]:
        """The runs that did not diverge."""
        return tuple(run for run in self.runs if not run.diverged)

    @cached_property
    def values(self) -> tuple[float, ...]:
        """Scores as fractions, one per run that did not diverge."""
        found = (run.score(self.column.split, self.column.metric) for run in self.scored)
        return tuple(value for value in found if value is not None)

    @property
    def mean(self) -> float | None:
        """Mean over the runs; None if all of them diverged."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (n - 1); None for a single run."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def lower_is_better(self) -> bool:
        """Whether its runs chose their epoch by the lowest value of its metric."""
        selection = self.runs[0].metrics["selection"]
        return bool(selection["metric"] == self.column.metric and selection["mode"] == "min")

    @property
    def error(self) -> float | None:
        """Standard error of a run's score over rows, mean of the runs; None where not known."""
        split, metric = self.column.split, self.column.metric
        errors = [run.standard_error(split, metric) for run in self.scored]
        known = [error for error in errors if error is not None]
        return statistics.fmean(known) if known and len(known) == len(errors) else None

    @property
    def stuck(self) -> tuple[ReportedRun, ...]:
        """The runs that give one answer to all rows."""
        return tuple(run for run in self.scored if run.stuck(self.column.split))

    @property
    def seconds(self) -> float | None:
        """Mean seconds of training; None for runs that were trained elsewhere."""
        if any(run.imported for run in self.runs):
            return None
        return statistics.fmean(run.metrics["timing"]["train_seconds"] for run in self.runs)

    @property
    def peak_bytes(self) -> int | None:
        """Largest peak of memory; None where a run's is not known."""
        return _largest(run.peak_bytes for run in self.runs)


@dataclass(frozen=True)
class TableRow:
    """A row of the table."""

    key: RowKey
    cells: dict[TaskColumn, Cell]

    def average(self, columns: Sequence[TaskColumn]) -> float | None:
        """Mean of the cells' means over `columns`; None if one of them has none."""
        means = [cell.mean for column in columns if (cell := self.cells.get(column))]
        found = [mean for mean in means if mean is not None]
        return statistics.fmean(found) if found and len(found) == len(columns) else None

    @property
    def trainable_percent(self) -> tuple[float, float]:
        """Least and most of the runs: heads differ from task to task."""
        found = [
            float(run.metrics["parameters"]["trainable_percent"])
            for cell in self.cells.values()
            for run in cell.runs
        ]
        return min(found), max(found)

    @property
    def retention(self) -> float | None:
        """Mean KL from the bare model, nats a token, of the runs that measured it."""
        runs = {run.directory.path: run for cell in self.cells.values() for run in cell.runs}
        found = [float(run.retention["kl"]) for run in runs.values() if run.retention]
        return statistics.fmean(found) if found else None

    def seconds(self, columns: Sequence[TaskColumn]) -> float | None:
        """Mean seconds of training of a run, over `columns`, or over all that the row has.

        None where a run was trained elsewhere.
        """
        cells = [self.cells[column] for column in columns] or list(self.cells.values())
        found = [cell.seconds for cell in cells]
        known = [seconds for seconds in found if seconds is not None]
        return statistics.fmean(known) if len(known) == len(found) else None

    def peak_bytes(self, columns: Sequence[TaskColumn]) -> int | None:
        """Largest peak of memory of a run, over `columns`, or over all that the row has.

        None where a run's is not known.
        """
        cells = [self.cells[column] for column in columns] or list(self.cells.values())
        return _largest(cell.peak_bytes for cell in cells)


@dataclass(frozen=True)
class Report:
    """The table and the notes below it."""

    columns: tuple[TaskColumn, ...]
    lines: tuple[TableRow, ...]
    notes: tuple[str, ...]

    @cached_property
    def common(self) -> tuple[TaskColumn, ...]:
        """The columns that every row has: those that the average is over."""
        return tuple(c for c in self.columns if all(c in line.cells for line in self.lines))

    @property
    def averages(self) -> bool:
        """Whether the table has a column of averages: only over two columns or more."""
        return len(self.common) > 1

    @cached_property
    def texts(self) -> set[str]:
        """The texts that retention was measured on, by sha256."""
        cells = [cell for column in self.columns for cell in self.cells(column)]
        measured = (run.retention for cell in cells for run in cell.runs)
        return {str(found.get("sha256")) for found in measured if found}

    @cached_property
    def names(self) -> dict[TaskColumn, str]:
        """Short distinct names of the columns."""
        return dict(zip(self.columns, _names(self.columns, self._folders()), strict=True))

    def cells(self, column: TaskColumn) -> list[Cell]:
        """The cells of a column, from the top."""
        return [line.cells[column] for line in self.lines if column in line.cells]

    def majority(self, column: TaskColumn) -> float | None:
        """The score of a model that ignores its input; None if there is no such model."""
        runs = (run for cell in self.cells(column) for run in cell.runs)
        found = (run.majority(column.split, column.metric) for run in runs)
        return next((value for value in found if value is not None), None)

    def error(self, column: TaskColumn) -> float | None:
        """The standard error of a score of the column over rows: that of the best row."""
        cells = [cell for cell in self.cells(column) if cell.error is not None]
        best = [cell for cell in cells if cell.verdict and cell.verdict.best]
        return next((cell.error for cell in [*best, *cells]), None)

    @cached_property
    def counts(self) -> set[int]:
        """The numbers of runs behind the cells."""
        return {len(cell.values) for line in self.lines for cell in line.cells.values()}

    def _folders(self) -> list[str]:
        found = []
        for column in self.columns:
            run = next(line.cells[column].runs[0] for line in self.lines if column in line.cells)
            data = run.metrics["config"]["task"].get("data")
            found.append(Path(str(data)).name if data else column.sha256[:6])
        return found


def _names(columns: Sequence[TaskColumn], folders: Sequence[str]) -> list[str]:
    """The task's last word; with its folder, and the split, where that is not distinct."""
    short = [column.task.rpartition("/")[2] for column in columns]
    if len({column.split for column in columns}) > 1:
        short = [
            name if column.split == "validation" else f"{name} {column.split}"
            for name, column in zip(short, columns, strict=True)
        ]
    for further in (
        [column.task for column in columns],
        folders,
        [str(column.rows) for column in columns],
        [column.sha256[:6] for column in columns],
        [column.metric for column in columns],
    ):
        twice = {name for name in short if short.count(name) > 1}
        # A word that all equal names share would only make them longer.
        useful = {
            name
            for name in twice
            if len({more for own, more in zip(short, further, strict=True) if own == name}) > 1
        }
        short = [
            f"{name} {more}" if name in useful and name != more else name
            for name, more in zip(short, further, strict=True)
        ]
    return short


def _largest(sizes: Iterable[int | None]) -> int | None:
    found = list(sizes)
    known = [size for size in found if size is not None]
    return max(known) if len(known) == len(found) else None
