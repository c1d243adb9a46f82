"""The page of `ptv2 report --html FILE`: what it needs, and how it is written."""

from __future__ import annotations

from pathlib import Path

from ptv2_cli.cli import console
from ptv2_cli.errors import InputError
from ptv2_cli.files import write_atomic
from ptv2_cli.report.cells import Report
from ptv2_cli.report.html.page import page, require_jinja
from ptv2_cli.report.runs import FoundRuns


def require_page(file: Path) -> None:
    """Raise InputError where jinja2 is not installed, or where the file is a folder."""
    require_jinja("--html")
    if file.is_dir():
        what = f"{file} is a folder, not a file"
        raise InputError.at("--html", what, f"--html {file / 'report.html'}")


def write_page(report: Report, found: FoundRuns, file: Path) -> None:
    """Write the page of a report.

    Raises:
        InputError: the file cannot be written.
    """
    content = page(report, found.unfinished).encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, content)
    except OSError as error:
        what = f"{file} cannot be written: {error.strerror}"
        raise InputError.at("--html", what, "--html ANOTHER_FILE") from error
    console.note(f"wrote {file}")
