"""What `ptv2 sweep --dry-run` prints of GPU hours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ptv2_cli.cli import console

if TYPE_CHECKING:
    from ptv2_cli.sweeps.grid import Combination


def show_gpu_hours(combinations: Sequence[Combination], tflops: float | None) -> None:
    """Print the estimate of each config, if any has one.

    Args:
        combinations: of all configs.
        tflops: sustained operations a second, times 10^12; None: the default.
    """
    from ptv2_cli.sweeps.gpu_hours import default_tflops, gpu_hours

    rate = tflops or default_tflops()
    configs = gpu_hours(combinations, rate)
    known = [item for item in configs if item.hours is not None]
    if not known:
        return
    rows = [
        (item.config, str(item.trials), "-" if item.hours is None else _shown(item.hours))
        for item in configs
    ]
    if len(configs) > 1:
        trials, hours = sum(item.trials for item in known), sum(item.hours or 0 for item in known)
        rows.append(("total", str(trials), _shown(hours)))
    console.table("", ("config", "trials", "GPU hours"), rows, right_from=1)
    console.say(
        f"GPU hours by formula, at {rate:g} TFLOP/s (--tflops N for another GPU; docs/sweep.md)"
    )
    unknown = dict.fromkeys(item.unknown for item in configs if item.unknown)
    if unknown:
        console.note(f"no GPU hours where the size is not known: {', '.join(unknown)}")


def _shown(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 0.95 else f"{hours:.2g}"
