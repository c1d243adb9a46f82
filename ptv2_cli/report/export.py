"""A report for programs: csv and plain data, scores as fractions in full."""

from __future__ import annotations

import csv
import io
from typing import Any

from ptv2_cli.report.table import Cell, Line, Report


def csv_text(report: Report) -> str:
    """A line per row; three fields per task, empty where there is no run."""
    headings = ["backbone", "method", "prompt_len", "setting"]
    for column in report.columns:
        name = f"{report.names[column]} {column.metric}"
        headings += [f"{name} {figure}" for figure in ("mean", "sd", "n")]
    headings += ["average"] if report.averages else []
    headings += ["trainable_percent_least", "trainable_percent_most", "train_seconds"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    for line in report.lines:
        key = line.key
        # csv writes None as an empty field.
        row: list[Any] = [key.backbone, key.method, key.prompt_len, key.setting]
        for column in report.columns:
            row += _fields(line.cells.get(column))
        row += [line.average(report.common)] if report.averages else []
        writer.writerow([*row, *line.trainable_percent, line.seconds(report.common)])
    return out.getvalue()


def content(report: Report) -> dict[str, Any]:
    """The report as plain data, with the runs behind each cell."""
    return {
        "columns": [
            {"name": report.names[column], **column._asdict()} for column in report.columns
        ],
        "rows": [_row(report, line) for line in report.lines],
        "average_over": [report.names[column] for column in report.common]
        if report.averages
        else [],
        "notes": list(report.notes),
    }


def _fields(cell: Cell | None) -> list[Any]:
    return [None, None, None] if cell is None else [cell.mean, cell.sd, len(cell.values)]


def _row(report: Report, line: Line) -> dict[str, Any]:
    low, high = line.trainable_percent
    return {
        "backbone": line.key.backbone,
        "method": line.key.method,
        "prompt_len": line.key.prompt_len,
        "setting": dict(zip(line.key.keys, line.key.values, strict=True)),
        "cells": {report.names[column]: _cell(cell) for column, cell in line.cells.items()},
        "average": line.average(report.common) if report.averages else None,
        "trainable_percent": {"least": low, "most": high},
        "train_seconds": line.seconds(report.common),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "mean": cell.mean,
        "sd": cell.sd,
        "n": len(cell.values),
        "values": list(cell.values),
        "seeds": [run.seed for run in cell.scored],
        "train_seconds": cell.seconds,
        "runs": [str(run.directory.path) for run in cell.runs],
    }
