"""The runs of a report as the page names them: one entry for each run and task."""

from __future__ import annotations

from dataclasses import dataclass

from ptv2_cli.report.cells import Cell, Report, TableRow, TaskColumn
from ptv2_cli.report.runs import ReportedRun
from ptv2_cli.report.table import short_backbone


@dataclass(frozen=True)
class ShownRun:
    """A run on one of its tasks."""

    mark: str
    """Identifies it in the page, and in the next page that shows it."""
    run: ReportedRun
    column: TaskColumn
    at: int
    """Which of the report's columns that is."""
    line: TableRow
    cell: Cell

    @property
    def score(self) -> float | None:
        """The column's metric, a fraction; None of a run that diverged."""
        return None if self.run.diverged else self.run.score(self.column.split, self.column.metric)

    @property
    def error(self) -> float | None:
        """The score's standard error over rows; None where it is not known."""
        return self.run.standard_error(self.column.split, self.column.metric)

    @property
    def setting(self) -> str:
        """In what the run differs from similar rows."""
        return self.line.key.setting

    @property
    def backbone(self) -> str:
        """The backbone's short name."""
        return short_backbone(self.line.key.backbone)

    @property
    def ended(self) -> str:
        """When training ended, ISO 8601; empty where the run does not say."""
        return str((self.run.metrics.get("provenance") or {}).get("ended") or "")


def shown_runs(report: Report) -> list[ShownRun]:
    """All runs of the report in the order of its rows; seeds of a cell stand together."""
    entries = []
    for line in report.lines:
        for at, column in enumerate(report.columns):
            if column in line.cells:
                cell = line.cells[column]
                entries += [
                    ShownRun(mark_of(run), run, column, at, line, cell) for run in cell.runs
                ]
    return entries


def mark_of(run: ReportedRun) -> str:
    """What names a run in the page: its fingerprint, of several tasks with the task's number."""
    mark = str(run.metrics.get("fingerprint"))
    if not run.prefix:
        return mark
    names = list(run.metrics["data"]["train"].get("tasks") or [run.prefix.removesuffix(".")])
    name = run.prefix.removesuffix(".")
    return f"{mark}-{names.index(name) if name in names else 0}"
