"""The page: one HTML file that holds its styles, its script and its data, and loads nothing.

Runs hold text from data, labels and file names that somebody else may have written. Three things
keep it text: the templates escape every value; data in the page spells `<` as `\\u003c`, so that
no text ends its element; and the page's policy (Content Security Policy 3) runs no script but its
own, which it names by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptv2_cli.errors import InputError, Problem
from ptv2_cli.report.cells import Report
from ptv2_cli.report.html.figures import task_figures
from ptv2_cli.report.html.row_cache import RowCache
from ptv2_cli.report.html.rows import row_sets
from ptv2_cli.report.html.run_data import page_data
from ptv2_cli.report.html.shown_runs import shown_runs
from ptv2_cli.report.html.tables import runs_table, settings_table
from ptv2_cli.report.html.unfinished import unfinished
from ptv2_cli.report.table import caption
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.safe_text import visible
from ptv2_cli.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
SCRIPTS = ("tables.js", "runs.js", "live.js")


def require_jinja(flag: str) -> None:
    """Raise InputError where jinja2, which only pages need, is not installed."""
    if find_spec("jinja2") is None:
        what = "a page needs jinja2, which is not installed"
        raise InputError.at(flag, what, "pip install 'ptv2[html]'")


def page(
    report: Report | None,
    waiting: Sequence[RunDirectory] = (),
    problems: Sequence[Problem] = (),
    *,
    live: str = "",
    cache: RowCache | None = None,
) -> str:
    """The page of a report.

    Args:
        report: the finished runs; None where there are none.
        waiting: runs that have not finished.
        problems: what is wrong with runs that could not be read.
        live: the version of a page that renews itself; empty for a file.
        cache: answers that an earlier page has read.
    """
    cache = RowCache() if cache is None else cache
    entries = shown_runs(report) if report else []
    rows = {
        entry.mark: found
        for entry in entries
        if (found := cache.rows(entry.run, entry.column.split)) is not None
    }
    data: dict[str, Any] = {"columns": [], "keys": [], "values": [], "runs": [], "sets": []}
    tables, figures, methods = [], [], []
    if report:
        data = page_data(report, entries, rows, row_sets(rows.values()))
        words = ". ".join(text[0].upper() + text[1:] for text in caption(report, wide=True))
        tables = [settings_table(report, entries, f"{words}."), runs_table(report, entries)]
        figures = task_figures(report, entries, rows)
        methods = list(dict.fromkeys(line.key.method for line in report.lines))
    script = "\n".join(["'use strict';", *(_read(name) for name in SCRIPTS)])
    style = _read("page.css")
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            tables=tables,
            figures=figures,
            methods=methods,
            tasks=[report.names[column] for column in report.columns] if report else [],
            waiting=unfinished(waiting),
            problems=problems,
            count=len({entry.run.directory.path for entry in entries}),
            newest=max((entry.ended for entry in entries), default="")[:16].replace("T", " "),
            live=live,
            version=__version__,
            policy=_policy(script, style, live),
            style=style,
            script=script,
            data=data,
        )
    )


def to_json(value: Any) -> str:
    """JSON for a `script` element: no text in it can end the element or begin a comment."""
    text = json.dumps(_visible(value), ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _visible(value: Any) -> Any:
    """The data with the control characters of its texts spelled out."""
    if isinstance(value, str):
        return visible(value, keep="\n")
    if isinstance(value, dict):
        return {_visible(key): _visible(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_visible(inner) for inner in value]
    return value


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return visible(value) if type(value) is str else value

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    # Our own files, and data without any sign of markup.
    environment.filters["trusted"] = Markup
    environment.filters["json"] = lambda value: Markup(to_json(value))
    return environment


def _policy(script: str, style: str, live: str) -> str:
    connect = "connect-src 'self'; " if live else ""
    return (
        f"default-src 'none'; {connect}img-src data:; script-src {_hash(script)}; "
        f"style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8").strip()
