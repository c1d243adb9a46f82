"""`ptv2 report`: finished runs as one table, and as pictures."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptv2_cli.cli import complete, console

if TYPE_CHECKING:
    from ptv2_cli.report.detail import Detail
    from ptv2_cli.report.table import Report
    from ptv2_cli.report.text_table import Grid


class Format(StrEnum):
    """How the table is written."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


def report(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DIR",
            help="Folders of runs, or runs; default: runs/.",
            autocompletion=complete.runs,
        ),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="How to write the table.")
    ] = Format.table,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="M", help="A metric; default: that of the selection."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="S",
            help="A split; default: validation if reported.",
            autocompletion=complete.splits,
        ),
    ] = None,
    detail: Annotated[
        bool, typer.Option("--detail", help="Add scores per class or type, and confusions.")
    ] = False,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Draw curves into this folder (PNG, SVG)."),
    ] = None,
) -> None:
    """Show finished runs as one table: methods by tasks."""
    from ptv2_cli.config.suggestions import SPLITS
    from ptv2_cli.errors import InputError
    from ptv2_cli.report.build import build_report
    from ptv2_cli.report.detail import details
    from ptv2_cli.report.runs import find_runs

    if detail and format_ is Format.csv:
        raise InputError.at("--detail", "does not fit into one csv", "add --format json instead")
    if plots is not None:
        # Before any work: the folder and matplotlib may be missing.
        from ptv2_cli.report.plots import require_matplotlib

        require_matplotlib()
    found = find_runs(folders or [Path("runs")])
    made = build_report(found, metric, None if split is None else SPLITS.get(split, split))
    _WRITERS[format_](made, details(made) if detail else [])
    for text in made.notes:
        console.note(f"note: {text}")
    if plots is not None:
        _draw(made, plots)


def _draw(made: Report, folder: Path) -> None:
    from ptv2_cli.report.plots import draw

    for path in draw(made, folder):
        console.note(f"wrote {path}")


def _table(made: Report, more: list[Detail]) -> None:
    from ptv2_cli.report import render

    sign = _plus_minus()
    _grid(render.grid(made, sign))
    console.say()
    for text in render.caption(made, sign):
        console.say(text)
    for part in more:
        console.say()
        console.say(part.title)
        for number, table in enumerate(part.grids()):
            if number:
                console.say()
            _grid(table)


def _markdown(made: Report, more: list[Detail]) -> None:
    from ptv2_cli.report.render import markdown
    from ptv2_cli.report.text_table import escaped, markdown_table

    console.lines([markdown(made)])
    for part in more:
        console.lines(["", f"### {escaped(part.title)}"])
        for table in part.grids():
            console.lines(["", markdown_table(table)])


def _csv(made: Report, more: list[Detail]) -> None:
    from ptv2_cli.report.export import csv_text

    console.lines([csv_text(made).removesuffix("\n")])


def _json(made: Report, more: list[Detail]) -> None:
    from ptv2_cli.report.export import content

    detail = {"detail": [part.plain() for part in more]} if more else {}
    console.as_json({**content(made), **detail})


_WRITERS = {
    Format.table: _table,
    Format.markdown: _markdown,
    Format.csv: _csv,
    Format.json: _json,
}


def _grid(table: Grid) -> None:
    """A grid as wide as the terminal at most: what does not fit beside stands below."""
    from ptv2_cli.report.text_table import blocks

    for number, block in enumerate(blocks(table, console.width())):
        if number:
            console.say()
        console.table("", block.headings, block.rows, right_from=block.labels)


def _plus_minus() -> str:
    """The sign if standard output can say it."""
    try:
        "±".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "+-"
    return "±"
