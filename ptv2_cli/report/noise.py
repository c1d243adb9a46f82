"""Which of many settings are within the noise of the best: tests over rows and over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ptv2_cli.errors import Ptv2Error
from ptv2_cli.report.paired import holm, mcnemar, over_seeds, paired_bootstrap
from ptv2_cli.report.predictions import RunPredictions, difference, predicted
from ptv2_cli.report.runs import ReportedRun

LEVEL = 0.05
"""Settings whose corrected p is at least this are within the noise of the best."""
NEAREST = 20
"""Settings whose predictions are read: those whose scores are nearest to the best's."""
DRAWS = 2_000
"""Resamples of a bootstrap, of which a table may take NEAREST."""


@dataclass(frozen=True)
class Verdict:
    """How a setting compares with the best one."""

    best: bool
    rows: float | None = None
    """Two-sided p of another sample of rows; None if it is not known."""
    seeds: float | None = None
    """Two-sided p of other seeds; None without several on both sides."""
    p: float | None = None
    """The larger of the two, corrected for the number of settings; None: not tested."""

    @property
    def word(self) -> str:
        """`best`, `noise`, `worse` or `untested`."""
        if self.best:
            return "best"
        if self.p is None:
            return "untested"
        return "noise" if self.p >= LEVEL else "worse"


@dataclass(frozen=True)
class Contest:
    """The best of several settings and the others, scored by one metric on one split."""

    settings: Sequence[Sequence[ReportedRun]]
    """The runs of each, which differ by their seed alone."""
    best: int
    """The place of the best one."""
    split: str
    metric: str

    def verdicts(self) -> list[Verdict]:
        """A verdict for each setting.

        Every other than the best is tested against it twice. Over rows: McNemar's test for the
        accuracy of labels of one run each, else the paired bootstrap. Over seeds: Welch's t-test.
        The larger p counts, for a difference has to hold for both (the intersection-union test,
        Berger 1982, Technometrics 24), and all are corrected for their number (Holm 1979).
        """
        verdicts = [
            Verdict(True) if index == self.best else self._against(index)
            for index in range(len(self.settings))
        ]
        tested = [index for index, verdict in enumerate(verdicts) if verdict.p is not None]
        corrected = holm([verdicts[index].p or 0.0 for index in tested])
        for index, p in zip(tested, corrected, strict=True):
            verdicts[index] = replace(verdicts[index], p=p)
        return verdicts

    def _against(self, index: int) -> Verdict:
        values = [self._values[self.best], self._values[index]]
        if not all(values):
            return Verdict(False)
        seeds = over_seeds(*values)
        rows = self._exact(index) if index in self._nearest else None
        rows = self._bound(index) if rows is None else rows
        known = [p for p in (rows, seeds) if p is not None]
        return Verdict(False, rows, seeds, max(known, default=None))

    @cached_property
    def _values(self) -> list[list[float]]:
        """Scores of each setting's runs."""
        return [
            [value for run in runs if (value := run.score(self.split, self.metric)) is not None]
            for runs in self.settings
        ]

    @cached_property
    def _nearest(self) -> set[int]:
        means = {
            index: statistics.fmean(values) for index, values in enumerate(self._values) if values
        }
        top = means.pop(self.best)
        return set(sorted(means, key=lambda index: abs(means[index] - top))[:NEAREST])

    def _exact(self, index: int) -> float | None:
        """p over rows, from the predictions; None where they are missing or of other rows."""
        first = self._predictions_of_best
        if not first:
            return None
        # AUROC is no sum over rows: it cannot be resampled.
        if self.metric not in first[0].task.from_statistics(first[0].statistics.sum(axis=0)):
            return None
        second = self._read(index, first)
        if not second:
            return None
        a, b = first[0].right, second[0].right
        single = len(first) == len(second) == 1
        if single and self.metric == "accuracy" and a is not None and b is not None:
            return mcnemar(a, b).p
        rows_a, rows_b = ([run.statistics for run in side] for side in (first, second))
        tests = paired_bootstrap(rows_a, rows_b, first[0].task.from_statistics, DRAWS)
        return tests[self.metric].p

    @cached_property
    def _predictions_of_best(self) -> list[RunPredictions]:
        return self._read(self.best, [])

    def _read(self, index: int, others: list[RunPredictions]) -> list[RunPredictions]:
        """The predictions of a setting's runs; none where one is missing or of other rows."""
        read: list[RunPredictions] = []
        try:
            for run in self.settings[index]:
                first = next(iter((*others, *read)), None)
                predictions = predicted(run, self.split, first.task if first else None)
                if first is not None and difference(first, predictions) is not None:
                    return []
                _ = predictions.statistics  # raises if the lines are damaged
                read.append(predictions)
        except Ptv2Error:
            return []
        return read

    def _bound(self, index: int) -> float | None:
        """An upper bound of p over rows, from standard errors alone.

        The difference of two scores on the same rows varies less than that of scores on different
        rows, whose variance is the sum of theirs; its distribution is taken as normal.
        """
        errors = [self._error(setting) for setting in (self.best, index)]
        means = [statistics.fmean(self._values[setting]) for setting in (self.best, index)]
        if errors[0] is None or errors[1] is None:
            return None
        spread = math.hypot(errors[0], errors[1])
        return math.erfc(abs(means[0] - means[1]) / spread / math.sqrt(2)) if spread else None

    def _error(self, index: int) -> float | None:
        """The largest standard error of a setting's runs."""
        errors = [run.standard_error(self.split, self.metric) for run in self.settings[index]]
        known = [error for error in errors if error is not None]
        return max(known) if known and len(known) == len(errors) else None
