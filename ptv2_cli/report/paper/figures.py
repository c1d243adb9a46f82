"""The seed paper's figures: score against the backbone's size, and score by prompted layers."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ptv2_cli.report.cells import Cell, Report, TableRow, TaskColumn
from ptv2_cli.report.paper.published import published
from ptv2_cli.report.paper.tables import HERE, PaperRow, PaperTable, published_backbone
from ptv2_cli.report.pictures.curves import KEY, Picture, picture_of, points
from ptv2_cli.report.pictures.plots import (
    COLOURS,
    DASHES,
    MARKERS,
    SIZE,
    STYLE,
    saved,
    saved_picture,
    stagger,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SizePoint:
    """The mean score of a method on a backbone of some size."""

    method: str
    source: str
    backbone: str
    parameters: float
    score: float
    """A fraction."""


@dataclass(frozen=True)
class SizeFigure:
    """Scores against the number of the backbone's parameters, as figure 1 of the paper."""

    tasks: tuple[str, ...]
    """The tasks that every score is the mean of."""
    points: tuple[SizePoint, ...]


def size_figure(tables: Sequence[PaperTable]) -> SizeFigure | None:
    """Figure 1: the mean over RTE, BoolQ and CB, published and here.

    Where the runs lack one of them, the mean is over those of the three, else over those of the
    table, that every backbone and method here has: all points are means of the same tasks. None
    where the runs have no such task.
    """
    figured = {item.name: item.figure for item in published().tables if item.figure}
    table = next((table for table in tables if table.name in figured), None)
    if table is None:
        return None
    names = [column.name for column in table.columns]
    here = [row for row in table.rows if row.source == HERE and any(row.cells)]
    common = [
        at for at in range(len(names)) if here and all(row.cells[at] is not None for row in here)
    ]
    chosen = [at for at in common if names[at] in figured[table.name]] or common
    if not chosen:
        return None
    drawn = [point for row in table.rows if (point := _point(row, chosen)) is not None]
    return SizeFigure(tuple(names[at] for at in chosen), tuple(drawn))


def _point(row: PaperRow, columns: Sequence[int]) -> SizePoint | None:
    cells = [row.cells[at] for at in columns]
    scores = [cell.mean for cell in cells if cell is not None]
    if len(scores) < len(cells):
        return None
    runs = [run for cell in cells if cell for run in cell.runs]
    size = published().parameters.get(row.backbone, 0.0)
    if runs:
        size = float(runs[0].metrics["parameters"]["backbone"])
    return SizePoint(row.method, row.source, row.backbone, size, statistics.fmean(scores))


EVERY = "null"
"""How a report prints `method.layers` where it is not set."""
_INTERVAL = re.compile(r"(?P<end>first|last):(?P<count>\d+)|(?P<low>\d+)(?:-(?P<high>\d+))?")


def depth_picture(report: Report, column: TaskColumn, backbone: str) -> Picture | None:
    """Figure 3: the best score with prompts in the first or in the last k layers.

    Intervals that are written with numbers, such as `17-24`, count as the last k where they end at
    the backbone's highest prompted layer, and as the first k where they begin at layer 1. Prompts
    in all layers are a level. None without two k.
    """
    best: dict[str, dict[float, Cell]] = {}
    whole: list[Cell] = []
    lines = [line for line in report.lines if line.key.backbone == backbone]
    ranges = [_interval(line) for line in lines]
    top = max((found[1] for found in ranges if found and found[1]), default=0)
    for line, found in zip(lines, ranges, strict=True):
        cell = line.cells.get(column)
        if cell is None or cell.mean is None:
            continue
        if found is None:
            whole += [cell] if _layers(line) == EVERY else []
            continue
        first, last = found
        end = "first" if first == 1 else "last" if last == top or not last else None
        if end is not None:
            layers = float(last - first + 1 if last else -first)
            cells = best.setdefault(end, {})
            if layers not in cells or cell.mean > (cells[layers].mean or 0.0):
                cells[layers] = cell
    series = [points(f"the {name} k layers", cells) for name, cells in sorted(best.items())]
    if not any(len(one.x) > 1 for one in series):
        return None
    picture = picture_of(report, column, series)
    if not whole:
        return picture
    level = max(cell.mean or 0.0 for cell in whole)
    return replace(picture, levels=(("all layers", level), *picture.levels))


def _interval(line: TableRow) -> tuple[int, int] | None:
    """First and last prompted layer, (-k, 0) for the last k; None for anything else."""
    match = _INTERVAL.fullmatch(_layers(line))
    if match is None:
        return None
    if match["end"]:
        count = int(match["count"])
        return (1, count) if match["end"] == "first" else (-count, 0)
    return int(match["low"]), int(match["high"] or match["low"])


def _layers(line: TableRow) -> str:
    return dict(zip(line.key.keys, line.key.values, strict=True)).get(KEY, "")


def draw_figures(report: Report, tables: Sequence[PaperTable], folder: Path) -> Iterator[Path]:
    """Draw what the runs allow of figures 1 and 3, each as .png and .svg; yields the files.

    Raises:
        InputError: matplotlib is missing, or the folder cannot be written.
    """
    figure = size_figure(tables)
    if figure is not None:
        yield from _draw_sizes(figure, folder / "figure-1")
    backbones = list(dict.fromkeys(line.key.backbone for line in report.lines))
    for column, backbone in itertools.product(report.columns, backbones):
        picture = depth_picture(report, column, backbone)
        if picture is not None:
            names = [report.names[column], published_backbone(backbone)]
            file = re.sub(r"[^\w.-]+", "-", "-".join(names))
            title = ", ".join(names)
            yield from saved_picture(picture, "depth", title, folder / f"figure-3-{file}")


def _draw_sizes(sizes: SizeFigure, path: Path) -> Iterator[Path]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        methods = list(dict.fromkeys(point.method for point in sizes.points))
        sources = list(dict.fromkeys(point.source for point in sizes.points))
        for index, method in enumerate(methods):
            for source in sources:
                line = [p for p in sizes.points if (p.method, p.source) == (method, source)]
                line.sort(key=lambda point: point.parameters)
                own = source == HERE
                colour = COLOURS[index % len(COLOURS)]
                axes.plot(
                    [point.parameters for point in line],
                    [100 * point.score for point in line],
                    color=colour,
                    linestyle="-" if own else DASHES[1 + sources.index(source) % 3],
                    linewidth=1.6 if own else 1.0,
                    marker=MARKERS[index % len(MARKERS)],
                    markerfacecolor=colour if own else "white",
                    label=f"{method}, {source if own else f'published ({source})'}" if line else "",
                )
        axes.set_xscale("log")
        axes.set_xlabel("parameters of the backbone (log scale)")
        axes.set_ylabel("score (%)" if len(sizes.tasks) == 1 else "mean score (%)")
        title = _listed(sizes.tasks)
        axes.set_title(title, loc="left", fontweight="bold")
        figure.legend(loc="outside right center", alignment="left", handlelength=3.2)
        _size_axis(figure, axes, sizes.points)
        yield from saved(figure, path)


def _size_axis(figure: Figure, axes: Axes, drawn: Iterable[SizePoint]) -> None:
    """A tick for each backbone: `BERT-large 335M`."""
    sizes: dict[str, float] = {}
    for point in drawn:
        sizes.setdefault(point.backbone, point.parameters)
    ordered = sorted(sizes.items(), key=lambda item: item[1])
    axes.set_xticks(
        [size for _, size in ordered], [f"{name} {_size(size)}" for name, size in ordered]
    )
    axes.set_xticks([], minor=True)
    low, high = ordered[0][1], ordered[-1][1]
    pad = max((high / low) ** 0.1, 1.5)
    axes.set_xlim(low / pad, high * pad)
    stagger(figure, axes)


def _size(parameters: float) -> str:
    """`22M`, `355M`, `10B`."""
    if parameters >= 1e9:
        return f"{parameters / 1e9:.3g}B"
    return f"{parameters / 1e6:.3g}M" if parameters >= 1e6 else f"{parameters:.3g}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
