"""The comparison with a baseline as tables of text and as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ptv2_cli.report.baseline import Baseline, CellTest, RowTest
from ptv2_cli.report.cells import Report, RowKey
from ptv2_cli.report.noise import LEVEL
from ptv2_cli.report.table import label_columns
from ptv2_cli.report.text_table import Grid, escaped, markdown_table, p_value


def tables(baseline: Baseline, report: Report) -> list[tuple[Grid, list[str]]]:
    """The tables with their captions: the cells, and the rows if any has several settings."""
    cells = cells_grid(baseline, report), cells_caption(baseline)
    if not baseline.rows:
        return [cells]
    return [cells, (rows_grid(baseline, report), rows_caption(baseline))]


def cells_grid(baseline: Baseline, report: Report) -> Grid:
    """For each row and task the difference from the baseline, with its dagger, and Hedges' g."""
    names = label_columns(report)
    columns = [c for c in report.columns if any(column == c for _, column in baseline.cells)]
    sized = any(test.g is not None for test in baseline.cells.values())
    headings = [name for name, _ in names]
    for column in columns:
        name = f"{report.names[column]} {column.metric}".replace(" ", "\n")
        headings += [f"{name}\ndiff", f"{name}\np", *([f"{name}\ng"] if sized else [])]
    rows = []
    for line in report.lines:
        tests = [baseline.cells.get((line.key, column)) for column in columns]
        if any(tests):
            figures = [text for test in tests for text in _figures(test, sized)]
            rows.append([*(read(line.key) for _, read in names), *figures])
    return Grid(headings, rows, len(names))


def rows_grid(baseline: Baseline, report: Report) -> Grid:
    """For each row the test over all its pairs of task and backbone."""
    names = [name for name in label_columns(report) if name[0] != "backbone"]
    headings = [*(name for name, _ in names), "pairs", "better", "diff", "p", "delta"]
    rows = [
        [
            *(read(test.key) for _, read in names),
            *(str(test.settings), str(test.better)),
            *(signed(test.difference), p_value(test.p), f"{test.delta:+.2f}"),
        ]
        for test in baseline.rows
    ]
    return Grid(headings, rows, len(names))


def cells_caption(baseline: Baseline) -> list[str]:
    """What the figures of the cells mean, a line each."""
    tests = baseline.cells.values()
    lines = [
        f"diff: points above {baseline.name}, its best row of the same task and backbone",
        f"p: over rows and over seeds, Holm-corrected for {_counted(tests)}; "
        f"† better, ‡ worse (p < {LEVEL})",
    ]
    if any(test.g is not None for test in tests):
        lines.append("g: Hedges' g, the difference in standard deviations over seeds")
    return lines


def rows_caption(baseline: Baseline) -> list[str]:
    """What the figures over all tasks and backbones mean, a line each."""
    lines = [
        "pairs: of a task and a backbone, which both rows have; better: in how many of them",
        "diff: mean of the differences in points; above 0: better",
        "p: permutation test within each pair, over its seeds, Holm-corrected for "
        f"{len(baseline.rows)} {_plural(len(baseline.rows), 'comparison')}",
        "delta: Cliff's delta, share of runs won - share lost, mean over the pairs",
    ]
    least = max((test.least for test in baseline.rows), default=0.0)
    if least >= LEVEL:
        lines.append(f"with so few runs no p below {p_value(least)} is possible for some rows")
    return lines


def markdown(baseline: Baseline, report: Report) -> str:
    """All tables and their captions as markdown."""
    return "\n\n".join(
        f"{markdown_table(table)}\n\n{escaped('; '.join(lines))}."
        for table, lines in tables(baseline, report)
    )


def content(baseline: Baseline, report: Report) -> dict[str, Any]:
    """The comparison as plain data."""
    return {
        "name": baseline.name,
        "cells": [
            {
                **_key(key),
                "task": report.names[column],
                "metric": column.metric,
                "difference": test.difference,
                "p": test.p,
                "p_rows": test.rows,
                "p_seeds": test.seeds,
                "hedges_g": test.g,
                "better": test.better,
                "significant": bool(test.mark),
            }
            for (key, column), test in baseline.cells.items()
        ],
        "over_settings": [_row(test) for test in baseline.rows],
    }


def signed(value: float) -> str:
    """A difference of fractions in points: `+1.2`."""
    return f"{100 * value:+.1f}"


def _figures(test: CellTest | None, sized: bool) -> Sequence[str]:
    if test is None:
        return ["-"] * (3 if sized else 2)
    p = "-" if test.p is None else p_value(test.p)
    g = "-" if test.g is None else f"{test.g:+.2f}"
    return [f"{signed(test.difference)}{test.mark or ' '}", p, *([g] if sized else [])]


def _counted(tests: Iterable[CellTest]) -> str:
    count = sum(test.p is not None for test in tests)
    return f"{count} {_plural(count, 'comparison')}"


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _key(key: RowKey) -> dict[str, Any]:
    return {
        "backbone": key.backbone or None,
        "method": key.method,
        "prompt_len": key.prompt_len,
        "setting": key.setting,
    }


def _row(test: RowTest) -> dict[str, Any]:
    return {
        **_key(test.key),
        "settings": test.settings,
        "better": test.better,
        "difference": test.difference,
        "cliffs_delta": test.delta,
        "p": test.p,
        "least_p": test.least,
    }
