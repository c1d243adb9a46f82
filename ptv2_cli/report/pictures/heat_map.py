"""The attention on a prompt as a picture: layers down, heads across."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ptv2_cli.report.pictures.plots import STYLE, save
from ptv2_cli.runs.inspection.attention import LayerAttention

LABELS = 32
"""Layers or heads up to which each has its number at the axis."""
FIGURES = 16
"""Heads up to which each cell has its figure."""


def draw_heads(layers: Sequence[LayerAttention], title: str, path: Path) -> None:
    """Draw each head's share of attention on the prompt, beside the mean of each layer.

    Args:
        layers: in the order of a forward pass.
        title: of the picture.
        path: a file that ends in .png or .svg.

    Raises:
        InputError: the file cannot be written.
    """
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    heads = max(len(layer.heads) for layer in layers)
    shares = np.full((len(layers), heads + 2), np.nan)
    for row, layer in enumerate(layers):
        shares[row, : len(layer.heads)] = layer.heads
        shares[row, heads + 1] = layer.mean  # a gap stands between the heads and their mean
    shares *= 100
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({**STYLE, "axes.grid": False})
        figured = heads <= FIGURES
        width = 2.6 + (0.5 if figured else 0.28) * (heads + 2)
        height = 1.5 + 0.32 * len(layers)
        figure = Figure(figsize=(max(width, 5.0), height), layout="constrained")
        axes = figure.subplots()
        shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        every = max(1, -(-heads // LABELS))
        places = [*range(0, heads, every), heads + 1]
        axes.set_xticks(places, [*(str(place + 1) for place in places[:-1]), "mean"])
        step = max(1, -(-len(layers) // LABELS))
        rows = range(0, len(layers), step)
        axes.set_yticks(rows, [layers[row].name for row in rows])
        axes.tick_params(length=0, labelsize=8)
        axes.set_xlabel("head")
        axes.set_ylabel("layer")
        axes.set_title(title, loc="left", fontweight="bold", fontsize=9)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if figured:
            for (down, across), share in np.ndenumerate(shares):
                if not np.isnan(share):
                    colour = "white" if share > 55 else "black"
                    text = f"{share:.0f}"
                    axes.text(across, down, text, ha="center", va="center", color=colour, size=8)
        bar = figure.colorbar(shown, ax=axes, fraction=0.046)
        bar.set_label("attention on the prompt (%)")
        save(figure, path)
