"""The range tests of `train.lr: auto`: train loss against the learning rate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptv2_cli.errors import RunError
from ptv2_cli.report.cells import Report, TaskColumn
from ptv2_cli.report.pictures.curves import row_name
from ptv2_cli.report.runs import ReportedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 8
"""Most range tests of one picture: a line has a colour of its own."""


@dataclass(frozen=True)
class RangeCurve:
    """What one run's range test has seen, and the rate that it chose."""

    name: str
    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    chosen: float


def range_curves(report: Report, column: TaskColumn) -> list[RangeCurve]:
    """The range tests of a task's runs, in the order of the table, at most `MOST`.

    Raises:
        RunError: a run's lr_range.json is damaged.
    """
    curves: list[RangeCurve] = []
    for line in report.lines:
        cell = line.cells.get(column)
        for run in () if cell is None else cell.runs:
            if run.directory.lr_range.is_file():
                name = f"{row_name(report, line)}, seed {run.metrics['seed']}"
                curves.append(_read(run, name))
    return [curve for curve in curves if curve.rates][:MOST]


def draw_range_tests(axes: Axes, curves: list[RangeCurve], colours: tuple[str, ...]) -> None:
    """Draw each smoothed loss as a line, the steps' losses as dots, the chosen rate as a square."""
    from matplotlib.ticker import FuncFormatter

    for curve, colour in zip(curves, colours, strict=False):
        axes.plot(curve.rates, curve.losses, ".", color=colour, alpha=0.25, markersize=3)
        axes.plot(curve.rates, curve.smoothed, color=colour)
        label = f"{curve.name}: {curve.chosen:.2g}"
        nearest = min(range(len(curve.rates)), key=lambda at: abs(curve.rates[at] - curve.chosen))
        axes.plot(curve.chosen, curve.smoothed[nearest], "s", color=colour, label=label)
    top = max(max(curve.smoothed[0], *_until_least(curve)) for curve in curves)
    low = min(min(curve.losses) for curve in curves)
    axes.set_ylim(low - 0.05 * (top - low), top + 0.3 * (top - low))  # not where it blows up
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda rate, _: f"{rate:.0e}".replace("e-0", "e-"))
    )
    axes.set_xlabel("learning rate (log scale)")
    axes.set_ylabel("train loss")


def _until_least(curve: RangeCurve) -> list[float]:
    """The smoothed losses up to the least one."""
    return curve.smoothed[: curve.smoothed.index(min(curve.smoothed)) + 1]


def _read(run: ReportedRun, name: str) -> RangeCurve:
    path = run.directory.lr_range
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        points = content["curve"]
        rates, losses, smoothed = (
            [float(point[key]) for point in points] for key in ("rate", "loss", "smoothed")
        )
        return RangeCurve(name, rates, losses, smoothed, float(content["rate"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"is no range test of a ptv2 run: {error}"
        raise RunError.at(str(path), what, run.directory.repeat_hint) from None
