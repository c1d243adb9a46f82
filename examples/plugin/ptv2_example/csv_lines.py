"""`track: csv_lines`: the scores of every evaluation as lines of a csv file in the run's folder."""

from __future__ import annotations

import csv

from pydantic import Field

from ptv2_cli.config.section import Section
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.training.events import EvalDone, RunEvent, Started


class Options(Section):
    """Open keys of `track: {name: csv_lines, ...}`."""

    file: str = Field("scores.csv", description="name of the file")


class CsvLines:
    """Appends the scores of every evaluation to a csv file in the run's folder.

    Columns: step, metric, value. A resumed run writes no step twice.
    """

    Options = Options

    def __init__(self, run: ResolvedRun, options: Options) -> None:
        self.path = run.directory.path / options.file

    def on(self, event: RunEvent) -> None:
        """Take an event of the run; see `ptv2_cli.training.events`."""
        if isinstance(event, Started):
            self._begin(event.resumed_at)
        elif isinstance(event, EvalDone):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(
                    (event.step, name, score) for name, score in sorted(event.scores.items())
                )

    def close(self) -> None:
        """Nothing stays open between events."""

    def _begin(self, step: int) -> None:
        """The heading, and of an earlier start the lines up to the step at which it goes on."""
        lines = []
        if step and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                lines = [line for line in list(csv.reader(file))[1:] if int(line[0]) <= step]
        with self.path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("step", "metric", "value"), *lines])
