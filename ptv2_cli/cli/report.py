"""`ptv2 report`: finished runs as one table, as pictures, and as one HTML file."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.options import split_option

if TYPE_CHECKING:
    from ptv2_cli.report.baseline import Baseline
    from ptv2_cli.report.cells import Report
    from ptv2_cli.report.detail import Detail


class TableFormat(StrEnum):
    """How the table is written."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    latex = "latex"


class Layout(StrEnum):
    """What the tables look like."""

    methods = "methods"
    paper = "paper"


def report(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DIR",
            help="Runs, or folders that hold runs; default: runs/.",
            autocompletion=complete.runs,
        ),
    ] = None,
    format_: Annotated[
        TableFormat, typer.Option("--format", help="How to write the table.")
    ] = TableFormat.table,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", metavar="M", help="Metric to show; default: the one that chose the epoch."
        ),
    ] = None,
    split: Annotated[
        str | None, split_option("Split to show; default: validation if reported.")
    ] = None,
    detail: Annotated[
        bool, typer.Option("--detail", help="Add scores per class or type, and confusion matrices.")
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", metavar="ROW", help="Test every row against this method: finetune."
        ),
    ] = None,
    describe: Annotated[
        bool,
        typer.Option("--describe", help="Describe the runs in prose instead: a methods paragraph."),
    ] = False,
    layout: Annotated[
        Layout,
        typer.Option(
            "--layout",
            help="methods by tasks, or the seed paper's tables 2 and 3, figures 1 and 3.",
        ),
    ] = Layout.methods,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Draw plots into this folder (PNG, SVG)."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write one HTML file with tables, plots, configs and wrong rows.",
        ),
    ] = None,
) -> None:
    """Show finished runs as one table, or as a page: methods by tasks."""
    from ptv2_cli.config.suggestions import SPLITS
    from ptv2_cli.report.baseline import against
    from ptv2_cli.report.build import build_report
    from ptv2_cli.report.detail import details
    from ptv2_cli.report.runs import find_runs

    _require_room(format_, {"--detail": detail, "--baseline": baseline is not None})
    if describe:
        _require_prose(format_, detail)
    if plots is not None:
        # Before any work: the folder and matplotlib may be missing.
        from ptv2_cli.report.pictures.plots import require_matplotlib

        require_matplotlib()
    if html is not None:
        from ptv2_cli.cli.page import require_page

        require_page(html)
    found = find_runs(folders or [Path("runs")])
    if layout is Layout.paper:
        from ptv2_cli.cli.views.paper import show_paper

        asked: dict[str, object] = {"--metric": metric, "--split": split, "--baseline": baseline}
        asked |= {"--detail": detail, "--html": html, "--describe": describe}
        show_paper(found, format_.value, plots, [flag for flag, given in asked.items() if given])
        return
    made = build_report(found, metric, None if split is None else SPLITS.get(split, split))
    tests = None if baseline is None else against(made, baseline)
    # Files before the table: what reads the table may close the pipe early, as head does.
    if plots is not None:
        _draw(made, plots)
    if html is not None:
        from ptv2_cli.cli.page import write_page

        write_page(made, found, html)
    if describe:
        _prose(made, tests, format_)
    else:
        _WRITERS[format_](made, details(made) if detail else [], tests)
    for text in made.notes:
        console.note(f"note: {text}")


def _require_room(format_: TableFormat, asked: dict[str, bool]) -> None:
    """Raise InputError for what a format of one table cannot hold."""
    from ptv2_cli.errors import InputError

    for flag, given in asked.items():
        if given and (
            format_ is TableFormat.csv or (format_ is TableFormat.latex and flag == "--detail")
        ):
            what = "csv file" if format_ is TableFormat.csv else "LaTeX table"
            hint = "add --format json instead"
            raise InputError.at(flag, f"does not fit into one {what}", hint)


def _require_prose(format_: TableFormat, detail: bool) -> None:
    """Raise InputError for what prose cannot be."""
    from ptv2_cli.errors import InputError

    if detail:
        raise InputError.at("--detail", "does not go with --describe", "leave one of them out")
    if format_ in (TableFormat.csv, TableFormat.json):
        hint = "leave --format out, or choose markdown or latex"
        raise InputError.at("--describe", f"prose cannot be written as {format_.value}", hint)


def _prose(made: Report, tests: Baseline | None, format_: TableFormat) -> None:
    from ptv2_cli.cli.views.table_output import plus_minus
    from ptv2_cli.report.describe import describe
    from ptv2_cli.report.latex import escaped as for_latex
    from ptv2_cli.report.text_table import escaped as for_markdown

    for number, text in enumerate(describe(made, tests)):
        if number:
            console.say()
        if format_ is TableFormat.table:
            console.say(text.replace("±", plus_minus()), hang=0)
        else:
            console.lines([for_latex(text) if format_ is TableFormat.latex else for_markdown(text)])


def _draw(made: Report, folder: Path) -> None:
    from ptv2_cli.report.pictures.plots import draw

    for path in draw(made, folder):
        console.note(f"wrote {path}")


def _table(made: Report, more: list[Detail], tests: Baseline | None) -> None:
    from ptv2_cli.cli.views.table_output import plus_minus, show_grid
    from ptv2_cli.report import table as render

    sign = plus_minus()
    show_grid(render.grid(made, sign))
    console.say()
    for text in render.caption(made, sign):
        console.say(text)
    if tests is not None:
        _tests(made, tests)
    for part in more:
        console.say()
        console.say(part.title)
        for number, table in enumerate(part.grids()):
            if number:
                console.say()
            show_grid(table)


def _tests(made: Report, tests: Baseline) -> None:
    from ptv2_cli.cli.views.table_output import encodable, show_grid
    from ptv2_cli.report.baseline_table import tables

    plain = {} if encodable("†‡") else str.maketrans("†‡", "^v")
    for table, caption in tables(tests, made):
        console.say()
        show_grid(replace(table, rows=[[t.translate(plain) for t in row] for row in table.rows]))
        console.say()
        for text in caption:
            console.say(text.translate(plain))


def _markdown(made: Report, more: list[Detail], tests: Baseline | None) -> None:
    from ptv2_cli.report.table import markdown
    from ptv2_cli.report.text_table import escaped, markdown_table

    console.lines([markdown(made)])
    if tests is not None:
        from ptv2_cli.report.baseline_table import markdown as tests_markdown

        console.lines(["", tests_markdown(tests, made)])
    for part in more:
        console.lines(["", f"### {escaped(part.title)}"])
        for table in part.grids():
            console.lines(["", markdown_table(table)])


def _csv(made: Report, more: list[Detail], tests: Baseline | None) -> None:
    from ptv2_cli.report.export import csv_text

    console.lines([csv_text(made).removesuffix("\n")])


def _json(made: Report, more: list[Detail], tests: Baseline | None) -> None:
    from ptv2_cli.report.export import content

    detail: dict[str, object] = {"detail": [part.plain() for part in more]} if more else {}
    if tests is not None:
        from ptv2_cli.report.baseline_table import content as tests_content

        detail["baseline"] = tests_content(tests, made)
    console.as_json({**content(made), **detail})


def _latex(made: Report, more: list[Detail], tests: Baseline | None) -> None:
    from ptv2_cli.report.latex import latex

    console.lines([latex(made, tests)])


_WRITERS = {
    TableFormat.table: _table,
    TableFormat.markdown: _markdown,
    TableFormat.csv: _csv,
    TableFormat.json: _json,
    TableFormat.latex: _latex,
}
