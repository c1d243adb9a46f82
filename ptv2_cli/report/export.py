"""A report for programs: csv and plain data, scores as fractions in full."""

from __future__ import annotations

import csv
import io
from typing import Any

from ptv2_cli.report.cells import Cell, Report, TableRow
from ptv2_cli.report.noise import Verdict
from ptv2_cli.safe_text import guarded_cell

FIGURES = ("mean", "sd", "n", "standard_error", "majority_baseline", "p", "verdict", "stuck")
"""Fields of a cell in csv: `p` is Holm-corrected, `stuck` a number of runs."""


def csv_text(report: Report) -> str:
    """A line per row; FIGURES per task, empty where there is no run or nothing is known."""
    headings = ["backbone", "method", "prompt_len", "setting"]
    for column in report.columns:
        name = f"{report.names[column]} {column.metric}"
        headings += [f"{name} {figure}" for figure in FIGURES]
    headings += ["average"] if report.averages else []
    headings += ["retention_kl"] if report.texts else []
    headings += ["trainable_percent_least", "trainable_percent_most"]
    headings += ["train_seconds", "peak_bytes"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(guarded_cell, headings))
    for line in report.lines:
        key = line.key
        # csv writes None as an empty field.
        row: list[Any] = [key.backbone, key.method, key.prompt_len, key.setting]
        for column in report.columns:
            row += _fields(line.cells.get(column), report.majority(column))
        row += [line.average(report.common)] if report.averages else []
        row += [line.retention] if report.texts else []
        row += line.trainable_percent
        row += [line.seconds(report.common), line.peak_bytes(report.common)]
        writer.writerow(map(guarded_cell, row))
    return out.getvalue()


def content(report: Report) -> dict[str, Any]:
    """The report as plain data, with the runs behind each cell."""
    return {
        "columns": [
            {
                "name": report.names[column],
                **column._asdict(),
                "majority_baseline": report.majority(column),
                "standard_error": report.error(column),
            }
            for column in report.columns
        ],
        "rows": [_row(report, line) for line in report.lines],
        "average_over": [report.names[column] for column in report.common]
        if report.averages
        else [],
        "notes": list(report.notes),
    }


def _fields(cell: Cell | None, majority: float | None) -> list[Any]:
    if cell is None:
        return [None] * len(FIGURES)
    word, p = (cell.verdict.word, cell.verdict.p) if cell.verdict else (None, None)
    figures = [cell.mean, cell.sd, len(cell.values), cell.error, majority]
    return [*figures, p, word, len(cell.stuck)]


def _row(report: Report, line: TableRow) -> dict[str, Any]:
    low, high = line.trainable_percent
    return {
        "backbone": line.key.backbone,
        "method": line.key.method,
        "prompt_len": line.key.prompt_len,
        "setting": dict(zip(line.key.keys, line.key.values, strict=True)),
        "cells": {report.names[column]: _cell(cell) for column, cell in line.cells.items()},
        "average": line.average(report.common) if report.averages else None,
        **({"retention_kl": line.retention} if report.texts else {}),
        "trainable_percent": {"least": low, "most": high},
        "train_seconds": line.seconds(report.common),
        "peak_bytes": line.peak_bytes(report.common),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "mean": cell.mean,
        "sd": cell.sd,
        "n": len(cell.values),
        "values": list(cell.values),
        "seeds": [run.seed for run in cell.scored],
        "standard_error": cell.error,
        "verdict": None if cell.verdict is None else _verdict(cell.verdict),
        "stuck": [str(run.directory.path) for run in cell.stuck],
        "train_seconds": cell.seconds,
        "peak_bytes": cell.peak_bytes,
        "runs": [str(run.directory.path) for run in cell.runs],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "word": verdict.word,
        "p": verdict.p,
        "p_rows": verdict.rows,
        "p_seeds": verdict.seeds,
    }
