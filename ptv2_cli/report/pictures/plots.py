"""Pictures of a report as PNG and SVG, for print and for the colour-blind.

Colours are those of Okabe and Ito (2008, Color Universal Design), which people with any of the
common colour vision deficiencies tell apart; each line has a dash pattern and a marker of its
own as well, so that a copy in grey still reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptv2_cli.errors import InputError
from ptv2_cli.report.cells import Report, TaskColumn
from ptv2_cli.report.pictures.curves import (
    LOG_SCALES,
    Picture,
    Series,
    by_depth,
    by_learning_rate,
    by_prompt_length,
    by_train_rows,
    learning_curves,
    loss_curves,
)
from ptv2_cli.report.pictures.pareto import Tradeoff, draw_tradeoffs, tradeoffs
from ptv2_cli.report.pictures.range_tests import RangeCurve, draw_range_tests, range_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9", "#8A7F00")
"""Okabe and Ito's; their yellow, which white paper swallows, is darkened."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
MARKERS = "os^Dv<>X"
LEVELS: tuple[Any, ...] = ((0, (6, 3)), (0, (3, 2, 1, 2)), (0, (1, 2)))
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "ptv2",  # and the same runs give the same file
}
LOSS = "loss"
OVER_EPOCHS = frozenset({"learning-curves", LOSS})
"""Pictures whose x axis is the time of training."""
BANDS = 4
"""Learning curves whose bands of one standard deviation can be told apart."""
FAR = 0.1
"""A level may lie this far, or as far as the scores spread, outside of them."""
SUFFIXES = (".png", ".svg")
SIZE = (7.6, 3.8)
"""Inches; the legend stands beside the plot."""


def require_matplotlib(flag: str = "--plots") -> None:
    """Raise InputError where matplotlib, which only pictures need, is not installed."""
    if find_spec("matplotlib") is None:
        raise InputError.at(
            flag, "pictures need matplotlib, which is not here", "pip install 'ptv2[plots]'"
        )


def draw(report: Report, folder: Path) -> Iterator[Path]:
    """Draw all pictures that the runs allow, each as .png and .svg; yields the files.

    For every task `learning-curves-TASK` and `loss-TASK`; `prompt-length-TASK`,
    `learning-rate-TASK`, `train-rows-TASK` and `depth-TASK` (the first or last k layers) where some
    method was run with two of them; `trained-TASK`, scores against the number of values that train,
    where there are two such numbers; `range-test-TASK`, train loss against learning rate, of runs
    with `train.lr: auto`.

    Raises:
        InputError: matplotlib is missing, or the folder cannot be written.
        RunError: a run's history is missing or damaged, or its range test is.
    """
    require_matplotlib()
    for column in report.columns:
        task = re.sub(r"[^\w.-]+", "-", report.names[column])
        title = report.names[column]
        made = {
            "learning-curves": learning_curves(report, column),
            LOSS: loss_curves(report, column),
            "prompt-length": by_prompt_length(report, column),
            "learning-rate": by_learning_rate(report, column),
            "train-rows": by_train_rows(report, column),
            "depth": by_depth(report, column),
        }
        for kind, picture in made.items():
            if picture is not None and picture.series:
                yield from saved_picture(picture, kind, title, folder / f"{kind}-{task}")
        if points := tradeoffs(report, column):
            yield from _save_tradeoffs(points, column, title, folder / f"trained-{task}")
        if curves := range_curves(report, column):
            yield from _save_range_tests(curves, title, folder / f"range-test-{task}")


def saved_picture(picture: Picture, kind: str, title: str, path: Path) -> Iterator[Path]:
    """Draw a picture and write it as PNG and SVG; yields the files.

    Args:
        picture: what to draw.
        kind: what its x axis is: `learning-curves`, `loss`, `depth` or one of `LOG_SCALES`.
        title: above it.
        path: the files without their endings.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        spread = kind not in OVER_EPOCHS or len(picture.series) <= BANDS
        index = -1
        for series in picture.series:
            index += not series.beside
            _line(axes, series, index, kind, spread)
        for index, (name, value) in enumerate(picture.levels):
            _level(axes, picture, index, name, value)
        _span(axes, picture)
        axes.set_title(title, loc="left", fontweight="bold")
        score = f"{picture.column.metric} on {picture.split} (%)"
        axes.set_ylabel("loss" if kind == LOSS else score)
        _x_axis(axes, picture, kind)
        _legend(figure, axes, picture, spread)
        if kind not in OVER_EPOCHS:
            stagger(figure, axes)
        yield from saved(figure, path)


def _save_tradeoffs(
    points: Sequence[Tradeoff], column: TaskColumn, title: str, path: Path
) -> Iterator[Path]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_ylabel(f"{column.metric} on {column.split} (%)")
        draw_tradeoffs(axes, figure, points)
        yield from saved(figure, path)


def _save_range_tests(curves: list[RangeCurve], title: str, path: Path) -> Iterator[Path]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, loc="left", fontweight="bold")
        draw_range_tests(axes, curves, COLOURS)
        figure.legend(loc="outside right upper", title="learning rate chosen")
        yield from saved(figure, path)


def saved(figure: Figure, path: Path) -> Iterator[Path]:
    """Write the figure as PNG and SVG; yields the files."""
    for suffix in SUFFIXES:
        file = path.with_name(path.name + suffix)
        save(figure, file, "--plots ANOTHER_FOLDER")
        yield file


def save(figure: Figure, file: Path, hint: str = "name another file") -> None:
    """Write a figure, with the same bytes for the same figure.

    Args:
        figure: to write.
        file: ends in .png or .svg.
        hint: what to type if it cannot be written.

    Raises:
        InputError: the file cannot be written.
    """
    facts = {"Software": None} if file.suffix.lower() == ".png" else {"Date": None}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=200, bbox_inches="tight", metadata=facts)
    except OSError as error:
        raise InputError.at(str(file), f"cannot be written: {error.strerror}", hint) from error


def _line(axes: Axes, series: Series, index: int, kind: str, spread: bool) -> None:
    colour = COLOURS[index % len(COLOURS)]
    unit = 1 if kind == LOSS else 100
    mean = [unit * value for value in series.mean]
    axes.plot(
        series.x,
        mean,
        color=colour,
        linestyle=":" if series.beside else DASHES[index % len(DASHES)],
        marker="" if series.beside else MARKERS[index % len(MARKERS)],
        markevery=max(1, len(series.x) // 12),
        markerfacecolor="white" if index % 2 else colour,
        label=series.label,
    )
    for x, y, error in zip(series.x, mean, series.error, strict=False):
        if error:
            axes.errorbar(x, y, yerr=100 * error, color=colour, fmt="none", capsize=3, alpha=0.7)
    sd = [unit * (value or 0.0) for value in series.sd]
    if not spread or not any(sd):
        return
    if kind in OVER_EPOCHS:
        low = [m - s for m, s in zip(mean, sd, strict=True)]
        high = [m + s for m, s in zip(mean, sd, strict=True)]
        axes.fill_between(series.x, low, high, color=colour, alpha=0.15, linewidth=0)
    else:
        axes.errorbar(series.x, mean, yerr=sd, color=colour, fmt="none", capsize=3)


def _span(axes: Axes, picture: Picture) -> None:
    """Widen the y axis about its middle until it spans what the picture says."""
    low, high = axes.get_ylim()
    short = 100 * picture.least_span - (high - low)
    if short <= 0:
        return
    low, high = low - short / 2, high + short / 2
    scores = [score for series in picture.series for score in series.mean]
    if min(scores) >= 0.0 and low < 0.0:  # no axis below what a share can be
        low, high = 0.0, high - low
    if max(scores) <= 1.0 and high > 100.0:
        low, high = max(0.0, low - (high - 100.0)), 100.0
    axes.set_ylim(low, high + 0.01 * (high - low))


def _level(axes: Axes, picture: Picture, index: int, name: str, value: float) -> None:
    """A horizontal line; one so far off that it would flatten the others is only named."""
    scores = [score for series in picture.series for score in series.mean]
    low, high = min(scores), max(scores)
    room = max(high - low, FAR)
    if low - room <= value <= high + room:
        style = LEVELS[index % len(LEVELS)]
        axes.axhline(100 * value, color="#555555", linestyle=style, linewidth=1.1, label=name)
    else:
        axes.plot([], [], linestyle="none", label=f"{name}: {100 * value:.1f}")


def _x_axis(axes: Axes, picture: Picture, kind: str) -> None:
    values = sorted({at for series in picture.series for at in series.x})
    if kind in OVER_EPOCHS:
        from matplotlib.ticker import MaxNLocator

        axes.set_xlabel("training (epochs)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(values) == 1:  # else the axis would count in hundredths of an epoch
            axes.set_xticks(values)
        return
    if kind == "depth":
        axes.set_xticks(values)
        axes.set_xlabel("layers with prompts, k")
        return
    axes.set_xscale("log")
    axes.set_xticks(values, [_tick(value) for value in values])
    axes.set_xticks([], minor=True)
    # A margin in the scale's own measure, so that no point stands on the frame.
    pad = (values[-1] / values[0]) ** 0.06
    axes.set_xlim(values[0] / pad, values[-1] * pad)
    axes.set_xlabel(LOG_SCALES[kind])


def _tick(value: float) -> str:
    """`0.03`, `20`; `5e-5` for what has more zeros than a reader counts."""
    if value >= 0.001:
        return f"{value:g}"
    digits, _, power = f"{value:e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def stagger(figure: Any, axes: Axes) -> None:
    """Put labels of the x axis that would touch the one before them into a line of their own."""
    figure.draw_without_rendering()
    labels = axes.get_xticklabels()
    ends: list[float] = []
    rows = []
    for label in labels:
        box = label.get_window_extent()
        gap = 0.5 * box.height
        row = next((at for at, end in enumerate(ends) if box.x0 > end + gap), len(ends))
        ends[row : row + 1] = [box.x1]
        rows.append(row)
    axes.set_xticks(
        axes.get_xticks(),
        ["\n" * row + label.get_text() for row, label in zip(rows, labels, strict=True)],
    )


def _legend(figure: Any, axes: Axes, picture: Picture, spread: bool) -> None:
    facts = []
    if any(sd is not None for series in picture.series for sd in series.sd):
        facts.append("mean ± sd over seeds" if spread else "mean over seeds")
    if any(error for series in picture.series for error in series.error):
        facts.append("one seed: ± standard error over rows")
    if picture.left_out:
        facts.append(f"{len(picture.series)} best, {picture.left_out} not shown")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside right center",
        title="\n".join(facts) or None,
        handlelength=3.2,
        alignment="left",
    )


MOST = 40
"""Classes of which the counts can be read."""
LONGEST = 24
"""Characters of a class's name that are shown."""


def require_drawable(path: Path, flag: str) -> None:
    """Raise InputError where matplotlib is missing or the file's name does not say its format."""
    require_matplotlib(flag)
    if path.suffix.lower() not in SUFFIXES:
        hint = f"{flag} {path.with_suffix('.png')}, or .svg"
        raise InputError.at(flag, f"{path} does not end in .png or .svg", hint)


def draw_matrix(
    confusion: Mapping[str, Mapping[str, int]], title: str, path: Path, what: str = "rows"
) -> None:
    """Draw gold classes down, predicted across; each cell's count, and its share as its shade.

    Args:
        confusion: gold -> predicted -> count.
        title: of the picture.
        path: a file that ends in .png or .svg.
        what: what is counted.

    Raises:
        InputError: the file cannot be written.
    """
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    names = list(confusion)
    counts = np.array([[row.get(guess, 0) for guess in names] for row in confusion.values()])
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({**STYLE, "axes.grid": False})
        side = 1.6 + min(0.55, 16 / len(names)) * max(len(names), 3)
        figure = Figure(figsize=(side + 2.2, side + 0.6), layout="constrained")
        axes = figure.subplots()
        shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        labels = [_short(name) for name in names]
        size = 10 if len(names) <= 20 else 6
        axes.set_xticks(range(len(names)), labels, rotation=45, ha="right", fontsize=size)
        axes.set_yticks(range(len(names)), labels, fontsize=size)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("gold")
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if len(names) <= MOST:
            for (down, across), count in np.ndenumerate(counts):
                dark = shares[down, across] > 0.55
                colour = "white" if dark else "black" if count else "#999999"
                axes.text(
                    across, down, count, ha="center", va="center", color=colour, fontsize=size
                )
        bar = figure.colorbar(shown, ax=axes, fraction=0.046)
        bar.set_label(f"share of the gold class's {what}")
        save(figure, path)


def _short(name: str) -> str:
    text = " ".join(name.split()) or '""'
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
