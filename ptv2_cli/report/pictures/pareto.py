"""Scores against what trains: which methods give more for the same, or the same for less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ptv2_cli.report.cells import Report, TableRow, TaskColumn
from ptv2_cli.report.pictures.curves import row_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Box = tuple[float, float, float, float]
"""Left, low, right and high edge, in pixels."""


@dataclass(frozen=True)
class Tradeoff:
    """A method on one task: what it trains, and its score."""

    label: str
    trained: int
    """Values that train, the head's too."""
    mean: float
    """A fraction."""
    spread: float | None
    """Sample standard deviation over seeds; of one run, the standard error over rows."""
    percent: float
    """Trained values in percent of all values."""


def tradeoffs(report: Report, column: TaskColumn) -> list[Tradeoff]:
    """The best setting of each method and prompt length, by what it trains.

    Methods that train nothing are left out. Empty if all train the same number of values.
    """
    best: dict[tuple[object, ...], TableRow] = {}
    for line in report.lines:
        cell = line.cells.get(column)
        if cell is None or cell.mean is None:
            continue
        other = best.get(line.key[:3])
        if other is None or cell.mean > (other.cells[column].mean or 0.0):
            best[line.key[:3]] = line
    points = []
    for line in best.values():
        cell = line.cells[column]
        trained = max(int(run.metrics["parameters"]["trainable"]) for run in cell.scored)
        if trained:
            spread = cell.error if cell.sd is None else cell.sd
            name, score = row_name(report, line), cell.mean or 0.0
            share = max(float(r.metrics["parameters"]["trainable_percent"]) for r in cell.scored)
            points.append(Tradeoff(name, trained, score, spread, share))
    points.sort(key=lambda point: (point.trained, -point.mean))
    return points if len({point.trained for point in points}) > 1 else []


def front(points: Sequence[Tradeoff]) -> list[Tradeoff]:
    """The points that no other one beats with as few values; `points` are by trained values."""
    best: list[Tradeoff] = []
    for point in points:
        if not best or point.mean > best[-1].mean:
            best.append(point)
    return best


def draw_tradeoffs(axes: Axes, figure: Figure, points: Sequence[Tradeoff]) -> None:
    """Draw each point with its name, and the front as a line of steps."""
    from matplotlib.ticker import EngFormatter

    steps = front(points)
    last = max(point.trained for point in points)
    axes.step(
        [*(point.trained for point in steps), last],
        [100 * score for score in (*(point.mean for point in steps), steps[-1].mean)],
        where="post",
        color="#0072B2",
        linewidth=1.2,
    )
    for point in points:
        error = None if point.spread is None else 100 * point.spread
        best = point in steps
        axes.errorbar(
            point.trained,
            100 * point.mean,
            yerr=error,
            fmt="o",
            color="#0072B2" if best else "#777777",
            markerfacecolor="#0072B2" if best else "white",
            capsize=3,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel(
        "values that train (log scale)\n"
        "line: best up to this number of values; bars: sd over seeds, of one run standard error"
    )
    axes.margins(x=0.12, y=0.15)
    _name(axes, figure, points)


def _name(axes: Axes, figure: Figure, points: Sequence[Tradeoff]) -> None:
    """Write the name of each point beside it, where no name, no point and no line stands."""
    figure.draw_without_rendering()
    inside = axes.get_window_extent()
    taken = _drawn(axes, points)
    for point in points:
        x, y = axes.transData.transform((point.trained, 100 * point.mean))
        text = axes.annotate(point.label, (point.trained, 100 * point.mean), fontsize=8)
        size = text.get_window_extent()
        boxes = [
            (left, low, left + size.width, low + size.height)
            for left, low in _spots(x, y, size.width, size.height)
            if inside.x0 <= left and left + size.width <= inside.x1
        ]
        free = (box for box in boxes if not any(_touch(box, other) for other in taken))
        box = next(free, boxes[0])
        taken.append(box)
        left, low = axes.transData.inverted().transform(box[:2])
        text.set_position((left, low))


def _drawn(axes: Axes, points: Sequence[Tradeoff]) -> list[Box]:
    """The boxes of points and of the lines of the front, in pixels."""
    steps = front(points)
    corners = [(steps[0].trained, steps[0].mean)]
    for step in steps[1:]:
        corners += [(step.trained, corners[-1][1]), (step.trained, step.mean)]
    corners.append((points[-1].trained, corners[-1][1]))
    transform = axes.transData.transform
    ends = [transform((trained, 100 * mean)) for trained, mean in corners]
    lines = [
        (min(x, u) - 1, min(y, v) - 1, max(x, u) + 1, max(y, v) + 1)
        for (x, y), (u, v) in pairwise(ends)
    ]
    centres = [transform((point.trained, 100 * point.mean)) for point in points]
    return [*lines, *((x - 4, y - 4, x + 4, y + 4) for x, y in centres)]


def _spots(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    """Lower left corners for a name near a point, the best first, in pixels."""
    gap = 0.7 * height
    columns = (x + gap, x - gap - width, x - width / 2)
    rises = (0, 0.9, -0.9, 1.6, -1.6, 2.3, -2.3, 3.2, -3.2, 4.2, -4.2, 5.2, -5.2)
    return [(left, y - height / 2 + rise * height) for rise in rises for left in columns]


def _touch(one: Box, other: Box) -> bool:
    """Whether two boxes overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
