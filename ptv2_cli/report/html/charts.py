"""Plots as data for an inline SVG: lines, markers, bars and axes in the SVG's own units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ptv2_cli.report.cells import TaskColumn
from ptv2_cli.report.html.scales import Scale, Tick, linear_ticks, number, shown
from ptv2_cli.report.pictures.curves import Picture, Series
from ptv2_cli.report.pictures.pareto import Tradeoff, front
from ptv2_cli.report.pictures.plots import FAR
from ptv2_cli.report.text_table import Grid, percent

WIDTH, HEIGHT = 460.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 448.0, 12.0, 238.0
"""The edges of the area that is drawn on."""
STYLES = 8
"""Colours, each with dashes and a marker of its own."""
MARKED = 12
"""Markers on a line, at most."""
TOLD = 24
"""Rows of the table that says a plot in words, at most."""


@dataclass(frozen=True)
class Point:
    """A marker, and the ends of its error bar if it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    text: str = ""
    """Stands beside it."""
    hollow: bool = False


@dataclass(frozen=True)
class Line:
    """A line of a plot."""

    label: str
    style: int
    """Which colour, dashes and marker, from 0."""
    path: str
    """Points of a polyline."""
    points: tuple[Point, ...] = ()
    dotted: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line; one without `y` is only named in the legend."""

    label: str
    y: float | None


@dataclass(frozen=True)
class Chart:
    """A plot, ready to be drawn."""

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]
    levels: Sequence[Level]
    facts: Sequence[str]
    """Sentences below it."""
    table: Grid
    """The same in words and figures."""
    numbered: Sequence[str] = field(default=())
    """Names of points that only have a number in the plot, from 1."""


def line_chart(
    picture: Picture, title: str, x_label: str, *, log: bool = False, loss: bool = False
) -> Chart:
    """The plot of a picture of report/pictures/curves.py.

    Args:
        picture: at least one line.
        title: what it shows.
        x_label: what its x axis shows.
        log: whether the x axis is logarithmic.
        loss: whether the values are losses instead of scores.
    """
    unit = 1.0 if loss else 100.0
    places = sorted({value for series in picture.series for value in series.x})
    near, far = _levels(picture, unit)
    low, high = _range(picture, unit, [value for _, value in near])
    y = Scale(low, high, BOTTOM, TOP)
    if log:
        pad = max((places[-1] / places[0]) ** 0.06, 1.05)
        x = Scale(places[0] / pad, places[-1] * pad, LEFT, RIGHT, log=True)
        x_ticks = shown(x, places, [number(value) for value in places])
    else:
        pad = max((places[-1] - places[0]) * 0.04, 0.2)
        x = Scale(places[0] - pad, places[-1] + pad, LEFT, RIGHT)
        values = linear_ticks(places[0], places[-1], 8, whole=True)
        x_ticks = shown(x, values, [number(value) for value in values])
    y_values = linear_ticks(low, high)
    lines, style = [], -1
    for series in picture.series:
        style += not series.beside
        lines.append(_line(series, style % STYLES, x, y, unit))
    measure = "loss" if loss else f"{picture.column.metric} (%)"
    return Chart(
        title,
        x_label,
        f"{measure} on {picture.split}",
        x_ticks,
        [Tick(y.at(value), number(value)) for value in y_values],
        lines,
        [
            *(Level(f"{name}: {value:.1f}", y.at(value)) for name, value in near),
            *(Level(f"{name}: {value:.1f} (outside the plot)", None) for name, value in far),
        ],
        _facts(picture),
        _table(picture, places, x_label, unit),
    )


def tradeoff_chart(points: Sequence[Tradeoff], column: TaskColumn, title: str) -> Chart:
    """Scores against the share that trains; a line of steps joins those that none beats."""
    shares = [point.percent for point in points]
    ends = [
        100 * (point.mean + sign * (point.spread or 0.0)) for point in points for sign in (-1, 1)
    ]
    low, high = _widened(min(ends), max(ends), 2.0)
    y = Scale(low, high, BOTTOM, TOP)
    x = Scale(min(shares) / 1.6, max(shares) * 1.6, LEFT, RIGHT, log=True)
    powers = [10.0**power for power in range(-6, 3)]
    ticks = [value for value in powers if x.low <= value <= x.high]
    if len(ticks) < 2:
        ticks = sorted({shares[0], shares[-1]})
    best = front(points)
    corners: list[tuple[float, float]] = []
    for point in best:
        if corners:
            corners.append((x.at(point.percent), corners[-1][1]))
        corners.append((x.at(point.percent), y.at(100 * point.mean)))
    corners.append((x.at(max(shares)), corners[-1][1]))
    marks = [
        Point(
            x.at(point.percent),
            y.at(100 * point.mean),
            y.at(100 * (point.mean - point.spread)) if point.spread else None,
            y.at(100 * (point.mean + point.spread)) if point.spread else None,
            str(place),
            point not in best,
        )
        for place, point in enumerate(points, 1)
    ]
    rows = [
        [str(place), point.label, f"{point.percent:.3g}", f"{point.trained:,}", percent(point.mean)]
        for place, point in enumerate(points, 1)
    ]
    return Chart(
        title,
        "share that trains (%, log scale)",
        f"{column.metric} (%) on {column.split}",
        shown(x, ticks, [number(value) for value in ticks]),
        [Tick(y.at(value), number(value)) for value in linear_ticks(low, high)],
        [Line("best up to this share", 0, _path(corners), tuple(marks))],
        (),
        ("bars: standard deviation over seeds; of one run, the standard error over rows",)
        if any(point.spread for point in points)
        else (),
        Grid(["point", "setting", "trains (%)", "values", column.metric], rows, 2),
        [point.label for point in points],
    )


def _levels(
    picture: Picture, unit: float
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """The levels near the lines, and those so far away that they would flatten them."""
    scores = [score for series in picture.series for score in series.mean]
    low, high = min(scores), max(scores)
    room = max(high - low, FAR)
    near: list[tuple[str, float]] = []
    far: list[tuple[str, float]] = []
    for name, value in picture.levels:
        place = near if low - room <= value <= high + room else far
        place.append((name, unit * value))
    return near, far


def _range(picture: Picture, unit: float, levels: Sequence[float]) -> tuple[float, float]:
    """What the y axis spans: all lines with their spreads and levels, and at least the noise."""
    values = list(levels)
    for series in picture.series:
        for mean, spread in zip(series.mean, _spreads(series), strict=True):
            values += [unit * (mean - spread), unit * (mean + spread)]
    low, high = _widened(min(values), max(values), unit * picture.least_span)
    inside = all(0 <= mean <= 1 for series in picture.series for mean in series.mean)
    if unit == 100 and inside:  # no axis beyond what a share can be
        low, high = max(low, 0.0), min(high, 100.0)
    return low, high


def _widened(low: float, high: float, least: float) -> tuple[float, float]:
    """A range with a margin, about its middle at least `least` wide."""
    margin = max((high - low) * 0.06, (least - (high - low)) / 2, 1e-3)
    return low - margin, high + margin


def _spreads(series: Series) -> list[float]:
    """The half length of each point's bar; 0 without one."""
    errors = series.error or (None,) * len(series.x)
    return [sd or error or 0.0 for sd, error in zip(series.sd, errors, strict=True)]


def _line(series: Series, style: int, x: Scale, y: Scale, unit: float) -> Line:
    every = max(1, -(-len(series.x) // MARKED))
    places = [(x.at(at), y.at(unit * mean)) for at, mean in zip(series.x, series.mean, strict=True)]
    points = []
    for index, (mean, spread) in enumerate(zip(series.mean, _spreads(series), strict=True)):
        if index % every and not (spread and not any(series.sd)):
            continue
        low, high = (y.at(unit * (mean + sign * spread)) if spread else None for sign in (-1, 1))
        points.append(Point(*places[index], low, high))
    kept = () if series.beside else tuple(points)
    return Line(series.label, style, _path(places), kept, series.beside)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _facts(picture: Picture) -> list[str]:
    facts = []
    if any(sd is not None for series in picture.series for sd in series.sd):
        facts.append("bars: standard deviation over seeds")
    if any(error for series in picture.series for error in series.error):
        facts.append("one seed: bars are the standard error over rows")
    if picture.left_out:
        facts.append(f"the best are shown; {picture.left_out} more are not")
    return facts


def _table(picture: Picture, places: Sequence[float], x_label: str, unit: float) -> Grid:
    """A row per place on the x axis; evenly chosen ones where there are too many."""
    every = -(-len(places) // TOLD)
    kept = [place for at, place in enumerate(places) if at % every == 0 or place == places[-1]]
    by_series = [dict(zip(series.x, series.mean, strict=True)) for series in picture.series]
    digits = 3 if unit == 1 else 1
    rows = [
        [
            number(place),
            *(f"{unit * own[place]:.{digits}f}" if place in own else "-" for own in by_series),
        ]
        for place in kept
    ]
    return Grid([x_label, *(series.label for series in picture.series)], rows, 1)
