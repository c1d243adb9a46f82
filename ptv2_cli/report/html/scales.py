"""Axes of a plot: ranges, ticks and where a value stands, in the units of an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

STEPS = (1, 2, 2.5, 5, 10)
"""Distances between ticks, times a power of ten."""
CHARACTER = 7.2
"""Width of a character of a tick's label, in the units of an SVG."""


@dataclass(frozen=True)
class Tick:
    """A tick: where it stands in the SVG, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis from `low` to `high`, drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value stands; values beyond the axis stand at its ends."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def linear_ticks(low: float, high: float, most: int = 6, *, whole: bool = False) -> list[float]:
    """Round values in a range, at most `most`; `whole`: whole numbers alone."""
    if high <= low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    steps = [power * factor * step for factor in (1, 10, 100) for step in STEPS]
    if whole:
        steps = [step for step in steps if step >= 1 and step == round(step)] or [1.0]
    for step in steps:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [round(step * number, 10) for number in range(first, last + 1)]
    return [low, high]


def shown(scale: Scale, values: Sequence[float], labels: Sequence[str]) -> list[Tick]:
    """The ticks whose labels do not touch the one before."""
    ticks: list[Tick] = []
    free = -math.inf
    for value, label in zip(values, labels, strict=True):
        at, half = scale.at(value), CHARACTER * len(label) / 2
        if at - half >= free:
            ticks.append(Tick(at, label))
            free = at + half + CHARACTER / 2
    return ticks


def number(value: float) -> str:
    """`0.03`, `20`; `5e-5` for what has more zeros than a reader counts."""
    if value == 0 or abs(value) >= 0.001:
        return f"{value:g}"
    digits, _, power = f"{value:e}".partition("e")
    return f"{float(digits):g}e{int(power)}"
