"""Confusion matrices as pictures for trackers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBERED = 20
"""Most labels with a count in every cell; more would not be legible."""


def confusion_pictures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Split and picture [height, width, 3] of each confusion matrix; none without matplotlib.

    Args:
        metrics: the content of metrics.json.
    """
    if find_spec("matplotlib") is None:
        return
    for split, detail in metrics["detail"].items():
        if detail.get("confusion"):
            yield split, picture(detail["confusion"])


def picture(confusion: Mapping[str, Mapping[str, int]]) -> NDArray[np.uint8]:
    """A matrix of gold labels (rows) and predicted labels (columns), [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = list(
        dict.fromkeys([*confusion, *(label for row in confusion.values() for label in row)])
    )
    counts = np.array([[confusion.get(row, {}).get(col, 0) for col in labels] for row in labels])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.45 * min(len(labels), 40)
    figure = Figure(figsize=(size, size), dpi=100, layout="tight")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels=labels, rotation=90, parse_math=False)
    axes.set_yticks(ticks, labels=labels, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    for (row, column), count in np.ndenumerate(counts) if len(labels) <= NUMBERED else ():
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
