"""The user's own texts and a number for each: Pearson's and Spearman's correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
from pydantic import Field

from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.rows import DataSource, Row
from ptv2_cli.errors import DataError
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import Kind
from ptv2_cli.scoring.resampling import correlations, moments, resampled_errors
from ptv2_cli.scoring.scores import Array, Prediction, Scores, Statistics
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.texts import TextTask
from ptv2_cli.tasks.user_data import (
    TableOptions,
    UserTable,
)

DIGITS = 6
"""Significant digits of what is found in the train file and written into the config."""


class RegressionOptions(TableOptions):
    """Open keys of `task: text/regression`."""

    mean: float | None = Field(
        None, description="the head learns (number - mean) / deviation; default: train's mean"
    )
    deviation: float | None = Field(
        None, gt=0, description="default: the standard deviation of the train file's numbers"
    )


class Regression(UserTable, TextTask):
    """Rows `{text columns..., label: NUMBER, ...}`; the label is absent if unlabelled."""

    kind: ClassVar[Kind] = "regression"
    unweighted = "numbers have no classes"
    options_model: ClassVar[type[Section]] = RegressionOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        own = cast(RegressionOptions, options)
        self.mean, self.deviation = own.mean, own.deviation

    def settle(self, source: DataSource) -> Task:
        """With mean and deviation of the train file's numbers; see Task.settle."""
        if self.mean is not None and self.deviation is not None:
            return self
        values = np.fromiter(self.train_values(source, self.gold_of), np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = _rounded(float(values.mean())), _rounded(float(values.std()))
        where = ", ".join(map(str, source.files("train")))
        if not math.isfinite(mean) or not math.isfinite(deviation):
            largest = max(values, key=abs)
            what = f"column {self.label_column!r} holds {largest:g}: too large a number"
            raise DataError.at(where, what, "give the numbers in a larger unit")
        if not deviation:
            what = f"column {self.label_column!r} holds {values[0]:g} in every row"
            raise DataError.at(where, what, "task.label names the column of the number")
        return self.with_options(
            mean=mean if self.mean is None else self.mean, deviation=self.deviation or deviation
        )

    def gold_of(self, line: RawRow, value: Any) -> float | None:
        """The number; see UserTable.gold_of."""
        return None if value is None else check_number(line, self.label_column, value)

    @property
    def _scale(self) -> tuple[float, float]:
        assert self.mean is not None
        assert self.deviation is not None
        return self.mean, self.deviation

    def _label(self, row: Row) -> float | None:
        gold = self.gold(row)
        if gold is None:
            return None
        mean, deviation = self._scale
        return float((gold - mean) / deviation)

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """A number on the scale of the labels."""
        mean, deviation = self._scale
        numbers = [0.0 for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            numbers[feature.row] = float(output["value"]) * deviation + mean
        return numbers

    def answer(self, line: Mapping[str, Any]) -> Any:
        """The number; see Task.answer."""
        return line["prediction"]

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, 11]: moments of numbers and predictions and of their ranks among these rows."""
        return moments(*self._pairs(rows, predictions))

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """pearson and spearman from summed moments [..., 11]."""
        values = correlations(totals)
        return {name: values[name] for name in self.metrics}

    def describe_gold(self, rows: Sequence[Row]) -> str:
        """Mean, deviation and range of the numbers; see Task.describe_gold."""
        numbers = np.array(self._golds(rows))
        if not numbers.size:
            return ""
        return (
            f"mean {numbers.mean():.4g}, deviation {numbers.std():.4g}, "
            f"from {numbers.min():.4g} to {numbers.max():.4g}"
        )

    def only_answer(self, rows: Sequence[Row]) -> str | None:
        """The number, where there is one alone; see Task.only_answer."""
        numbers = set(self._golds(rows))
        return f"the number {numbers.pop():g}" if len(numbers) == 1 else None

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """pearson and spearman, 0 where all predictions are one; errors under detail."""
        self.require_gold(rows)
        truth, guess = self._pairs(rows, predictions)
        statistics = moments(truth, guess)
        values = self.from_statistics(statistics.sum(axis=0))
        errors = resampled_errors(statistics, self.from_statistics)
        detail = {
            "mean_absolute_error": float(np.abs(guess - truth).mean()),
            "root_mean_squared_error": float(np.sqrt(np.square(guess - truth).mean())),
        }
        return self.scores(values, errors, detail)

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """The mean of train for every row."""
        values = self._golds(train)
        if not values:
            return None
        mean = float(np.mean(values))
        return [mean for _ in rows]

    def _golds(self, rows: Sequence[Row]) -> list[float]:
        return [self.gold(row) for row in rows if self.gold_key in row]

    def _pairs(
        self, rows: Sequence[Row], predictions: Sequence[Prediction]
    ) -> tuple[Statistics, Statistics]:
        return np.array(self._golds(rows), dtype=float), np.array(predictions, dtype=float)


def check_number(line: RawRow, column: str, value: Any) -> float:
    """The number in a column.

    Raises:
        DataError: it is none.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        comma = isinstance(value, str) and value.count(",") == 1
        meant = f"write {value.replace(',', '.')}" if comma else "write it as 3.5"
        raise DataError.at(line.where, f"column {column!r} holds {value!r}: no number", meant)
    return number


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
