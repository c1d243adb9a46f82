"""The curve of a range test, and the learning rate that follows from it. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STEPS = 80
"""Number of steps, one for each rate."""
SPAN = 30.0
"""The rates go from the method's default / SPAN to the default * SPAN."""
NEIGHBOURS = 4
"""Losses on each side that smoothing averages; the rate grows by 1.4 over each side."""
FLOOR = 0.2
"""The valley has losses up to this share of the total fall above the minimum."""
NOISE = 0.05
"""Share of the first loss; smaller changes of the smoothed loss are noise."""


@dataclass(frozen=True)
class RangeTest:
    """The result of a range test, and the rate that follows from it."""

    default: float
    """The method's rate for the head kind, the middle of the range."""
    rates: tuple[float, ...]
    """The learning rates of all steps, in equal factors; the test may end before the last."""
    losses: tuple[float, ...]
    """The train loss after each step, measured on the next batch, until the test ended."""

    @property
    def smoothed(self) -> list[float]:
        """Weighted means of each loss and its neighbours; nearer ones weigh more [steps]."""
        return [
            _weighted_mean(self.losses, centre, NEIGHBOURS) for centre in range(len(self.losses))
        ]

    @property
    def valley(self) -> tuple[int, int] | None:
        """The first and the last step of the valley; None: no rate lowers the loss.

        The loss falls as long as the rate is useful and rises when the steps become too large. The
        valley has the rates around the minimum of the smoothed loss, up to a slack above it. The
        curve after the first rise beyond the slack is ignored: with few rows, a later fall comes
        from memorized rows.
        """
        smoothed = self.smoothed
        if len(smoothed) < 2 * NEIGHBOURS:
            return None
        least = 0
        for at, loss in enumerate(smoothed):
            least = at if loss < smoothed[least] else least
            fell = smoothed[0] - smoothed[least] > 2 * NOISE * smoothed[0]
            if fell and loss > smoothed[least] + self._slack(smoothed, least):
                break
        if smoothed[0] - smoothed[least] < NOISE * smoothed[0]:
            return None
        ceiling = smoothed[least] + self._slack(smoothed, least)
        low = high = least
        while low > 0 and smoothed[low - 1] <= ceiling:
            low -= 1
        while high + 1 < len(smoothed) and smoothed[high + 1] <= ceiling:
            high += 1
        return low, high

    def _slack(self, smoothed: Sequence[float], least: int) -> float:
        return max(FLOOR * (smoothed[0] - smoothed[least]), NOISE * smoothed[0])

    @property
    def found(self) -> float | None:
        """The middle of the valley on the log scale; None: there is no valley.

        Leslie Smith (arXiv 1506.01186) reads the two ends of the valley off the same curve. The
        position of the minimum between them is random, and moves to higher rates the more the
        steps before it have learned.
        """
        if self.valley is None:
            return None
        low, high = self.valley
        return _rounded(math.sqrt(self.rates[low] * self.rates[high]))

    @property
    def tried(self) -> tuple[float, float]:
        """The lowest and the highest rate of the test."""
        return self.rates[0], self.rates[max(0, len(self.losses) - 1)]

    @property
    def rate(self) -> float:
        """The learning rate of the run: `found`, or the default."""
        return self.default if self.found is None else self.found

    @property
    def failure(self) -> str | None:
        """The reason why no rate was found; None: one was found."""
        if self.found is not None:
            return None
        if len(self.losses) < 2 * NEIGHBOURS:
            taken = f"{len(self.losses)} of {STEPS} steps"
            return f"the loss was not finite, or too high, after {taken}"
        low, high = self.tried
        return f"the train loss fell at no rate from {low:.1e} to {high:.1e}"

    def plain(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "rate": self.rate,
            "default": self.default,
            "from_curve": self.found is not None,
            "curve": [
                {"rate": rate, "loss": loss, "smoothed": mean}
                for rate, loss, mean in zip(self.rates, self.losses, self.smoothed, strict=False)
            ],
        }


def rates_around(default: float) -> list[float]:
    """The rates of a test: from `default` / SPAN to `default` * SPAN, in equal factors."""
    return [default * SPAN ** (2 * number / (STEPS - 1) - 1) for number in range(STEPS)]


def _weighted_mean(values: Sequence[float], centre: int, reach: int) -> float:
    """The mean around `centre` with weights that fall linearly to 0 beyond `reach`."""
    total = weights = 0.0
    for at in range(max(0, centre - reach), min(len(values), centre + reach + 1)):
        weight = 1 - abs(at - centre) / (reach + 1)
        total += weight * values[at]
        weights += weight
    return total / weights


def _rounded(rate: float) -> float:
    """The rate with two significant digits."""
    return float(f"{rate:.1e}")
