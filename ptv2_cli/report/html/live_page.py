"""The page of a folder whose runs go on: made again when a file of a run has changed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

from ptv2_cli.errors import Problem, Ptv2Error
from ptv2_cli.report.build import build_report
from ptv2_cli.report.cells import Report
from ptv2_cli.report.html.page import page
from ptv2_cli.report.html.row_cache import RowCache
from ptv2_cli.report.runs import FoundRuns, run_directories, scan_runs
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.lock import LOCK


class LivePage:
    """The page of the runs in a folder, finished or not; several threads may ask for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cache = RowCache()
        self._lock = threading.Lock()
        self._content: tuple[str, bytes] | None = None
        self._report: tuple[str, Report | None, tuple[Problem, ...]] | None = None

    def version(self) -> str:
        """What identifies the state of the runs' files; equal as long as none has changed."""
        return _hash(mark for run in run_directories(self.folder) for mark in _marks(run))

    def content(self) -> bytes:
        """The page as UTF-8, which names its version."""
        with self._lock:
            version = self.version()  # before the files are read: a change after it is a new one
            if self._content is None or self._content[0] != version:
                self._content = version, self._made(version).encode()
            return self._content[1]

    def _made(self, version: str) -> str:
        found, wrong = scan_runs([self.folder])
        damaged = [problem for problem in wrong if problem.where != str(self.folder)]
        finished = _hash(mark for run in found.runs for mark in _marks(run.directory))
        if self._report is None or self._report[0] != finished:
            self._report = finished, *_report(found)
        _, report, problems = self._report
        waiting = found.unfinished
        return page(report, waiting, [*damaged, *problems], live=version, cache=self._cache)


def _report(found: FoundRuns) -> tuple[Report | None, tuple[Problem, ...]]:
    """The report of the finished runs, which takes seconds for many; and why there is none."""
    if not found.runs:
        return None, ()
    try:
        return build_report(found), ()
    except Ptv2Error as error:
        return None, error.problems


def _marks(run: RunDirectory) -> Iterator[str]:
    """The state of the files by which a page can change."""
    for path in (run.metrics, run.history, run.evaluation("retention"), run.path / LOCK):
        try:
            status = path.stat()
        except OSError:
            continue
        yield f"{path} {status.st_mtime_ns} {status.st_size}"


def _hash(marks: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(marks).encode("utf-8", "surrogateescape")).hexdigest()[:16]
