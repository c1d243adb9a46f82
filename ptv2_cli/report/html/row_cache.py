"""Answers of runs, read once: a page that renews itself reads only what is new."""

from __future__ import annotations

import json

from ptv2_cli.errors import Ptv2Error
from ptv2_cli.report.html.rows import RunRows, rows_of
from ptv2_cli.report.predictions import task_of
from ptv2_cli.report.runs import ReportedRun
from ptv2_cli.tasks.base import Task


class RowCache:
    """The answers of runs whose predictions have not changed since they were read.

    Runs whose configs have the same task share one object for it.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], tuple[tuple[int, int], RunRows | None]] = {}
        self._tasks: dict[str, Task] = {}

    def rows(self, run: ReportedRun, split: str) -> RunRows | None:
        """A run's answers; None if its predictions or its config are missing or damaged."""
        path = run.directory.predictions(split)
        try:
            status = path.stat()
        except OSError:
            return None
        key, stamp = (str(path), run.prefix, split), (status.st_mtime_ns, status.st_size)
        if key not in self._known or self._known[key][0] != stamp:
            try:
                found = rows_of(run, split, self._task(run))
            except Ptv2Error:
                found = None
            self._known[key] = (stamp, found)
        return self._known[key][1]

    def _task(self, run: ReportedRun) -> Task:
        config = run.metrics["config"]
        key = json.dumps([config["task"], config.get("include"), run.prefix], sort_keys=True)
        if key not in self._tasks:
            self._tasks[key] = task_of(run)
        return self._tasks[key]
