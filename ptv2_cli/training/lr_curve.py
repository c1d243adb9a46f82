"""The curve of a range test, and the learning rate that it speaks for. Knows no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STEPS = 80
"""Steps of a test."""
SPAN = 30.0
"""The rates go from the method's default over this factor to the default times it."""
NEIGHBOURS = 4
"""Steps on either side over which a loss is averaged; the rate grows 1.4-fold over each side."""
FLOOR = 0.2
"""Share of the whole fall by which a loss may be above the least one and still be in the valley."""
NOISE = 0.05
"""Share of the first loss: by less, the smoothed loss of small batches moves by chance."""


@dataclass(frozen=True)
class RangeTest:
    """What a range test has seen, and the rate that follows from it."""

    default: float
    """The method's rate for the head kind, which is in the middle of the range."""
    rates: tuple[float, ...]
    """The learning rates of all steps, which grow by one factor; it may end before the last."""
    losses: tuple[float, ...]
    """The train loss after each step, as the next one measures it, while it was finite."""

    @property
    def smoothed(self) -> list[float]:
        """The means of the losses and their `NEIGHBOURS`, nearer ones counting more [steps]."""
        return [
            _weighted_mean(self.losses, centre, NEIGHBOURS) for centre in range(len(self.losses))
        ]

    @property
    def valley(self) -> tuple[int, int] | None:
        """The first and the last step of the rates that serve; None where no rate lowers the loss.

        The loss falls while steps at a rate still help and rises once they overshoot. Between the
        two lies a valley: the rates around the least smoothed loss that are above it by no more
        than a slack. What comes after the first rise beyond that counts no more: with few rows, a
        later fall is that of rows learned by heart.
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
        """The rate that the losses speak for: the middle of the valley, on the log scale.

        The ends of the valley are those that Leslie Smith (arXiv 1506.01186) reads off the same
        curve. The least loss itself lies anywhere between them by chance, and further to the right
        the more the steps before have learned. None where there is no valley.
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
        """The learning rate of the run: the one found, else the default."""
        return self.default if self.found is None else self.found

    @property
    def failure(self) -> str | None:
        """Why the losses say nothing; None if a rate was found."""
        if self.found is not None:
            return None
        if len(self.losses) < 2 * NEIGHBOURS:
            return f"the loss was not finite after {len(self.losses)} of {STEPS} steps"
        low, high = self.tried
        return f"the train loss fell at no rate from {low:.1e} to {high:.1e}"

    def plain(self) -> dict[str, Any]:
        """All of it as plain data."""
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
    """The mean around `centre` with weights that fall evenly to 0 beyond `reach`."""
    total = weights = 0.0
    for at in range(max(0, centre - reach), min(len(values), centre + reach + 1)):
        weight = 1 - abs(at - centre) / (reach + 1)
        total += weight * values[at]
        weights += weight
    return total / weights


def _rounded(rate: float) -> float:
    """Two significant digits, which a person can type."""
    return float(f"{rate:.1e}")
