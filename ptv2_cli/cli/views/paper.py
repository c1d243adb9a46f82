"""What `ptv2 report --layout paper` prints: the seed paper's tables, filled from runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ptv2_cli.cli import console
from ptv2_cli.cli.views.table_output import plus_minus, show_grid
from ptv2_cli.errors import InputError
from ptv2_cli.report.build import build_report
from ptv2_cli.report.paper import text as render
from ptv2_cli.report.paper.tables import paper_tables
from ptv2_cli.report.runs import FoundRuns


def show_paper(
    found: FoundRuns, format_: str, plots: Path | None, refused: Sequence[str] = ()
) -> None:
    """Print the tables in one format, and draw the figures.

    Args:
        found: the runs.
        format_: table, markdown, csv, json or latex.
        plots: the folder of the figures; None: none are drawn.
        refused: flags of the command that mean nothing here.

    Raises:
        InputError: a flag is refused, or no run is of a task of the tables.
    """
    if refused:
        what = "means nothing with --layout paper, whose columns say split and metric"
        raise InputError.at(refused[0], what, f"leave {refused[0]} out")
    tables = paper_tables(found)
    # Before the tables: what reads them may close the pipe early, as head does.
    if plots is not None:
        from ptv2_cli.report.paper.figures import draw_figures

        for path in draw_figures(build_report(found), tables, plots):
            console.note(f"wrote {path}")
    if format_ == "latex":
        console.lines([render.latex(tables)])
    elif format_ == "csv":
        console.lines([render.csv_text(tables).removesuffix("\n")])
    elif format_ == "json":
        console.as_json(render.content(tables))
    elif format_ == "markdown":
        console.lines(["\n\n".join(map(render.markdown, tables))])
    else:
        sign = plus_minus()
        for number, table in enumerate(tables):
            if number:
                console.say()
            console.say(render.title(table))
            show_grid(render.grid(table, sign))
            console.say()
            for text in render.caption(table, sign):
                console.say(text)
