"""A confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ptv2_cli.errors import InputError
from ptv2_cli.report.plots import STYLE, require_matplotlib

SUFFIXES = (".png", ".svg")
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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            facts = {"Software": None} if path.suffix.lower() == ".png" else {"Date": None}
            figure.savefig(path, dpi=200, bbox_inches="tight", metadata=facts)
        except OSError as error:
            what = f"cannot be written: {error.strerror}"
            raise InputError.at(str(path), what, "name another file") from error


def _short(name: str) -> str:
    text = " ".join(name.split()) or '""'
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
