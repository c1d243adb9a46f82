"""One picture of how the cost grows: measured points on the expected line, an axis a panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = 3
WIDE = 20
"""Values that differ by more than this factor are drawn on a logarithmic scale."""
MEASURED, EXPECTED = "#1f5fa8", "#9aa0a6"


def draw(found: Mapping[str, Sequence[Any]], titles: Mapping[str, str], path: Path) -> None:
    """Draw every axis into a PNG file; `found` gives points with at, measured and expected."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullLocator

    lines = -(-len(found) // COLUMNS)
    figure, panels = pyplot.subplots(
        lines, COLUMNS, figsize=(11, 3.5 * lines), squeeze=False, layout="constrained"
    )
    for panel in panels.flat[len(found) :]:
        panel.set_visible(False)
    for panel, (name, points) in zip(panels.flat, found.items(), strict=False):
        memory = name == "memory"
        factor = 2**-20 if memory else 1 if name == "rows" else 1000
        at = [point.at for point in points]
        panel.plot(
            at, [factor * point.expected for point in points], color=EXPECTED, label="expected"
        )
        panel.plot(
            at,
            [factor * point.measured for point in points],
            color=MEASURED,
            marker="o",
            linestyle="none",
            label="measured",
        )
        values = [value for point in points for value in (point.measured, point.expected)]
        if max(values) > WIDE * min(values):
            panel.set_yscale("log")
        else:
            panel.set_ylim(0, 1.15 * factor * max(values))
        if name != "layers":
            panel.set_xscale("log")
            panel.set_xticks(at)
            panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(_short))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        panel.set_xlabel(titles[name].replace("`", "").replace(", peak memory", ""))
        unit = "peak memory, MiB" if memory else "processor s" if name == "rows" else "ms a step"
        panel.set_ylabel(unit)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels.flat[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def _short(value: float, _: object) -> str:
    """1000 as 1 k, 1000000 as 1 M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"
