"""`task: text/multilabel`: texts with any number of labels each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
from pydantic import Field

from ptv2_cli.config.schema import Text
from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.rows import DataSource, Row
from ptv2_cli.errors import DataError
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import KindSpec, register_kind
from ptv2_cli.scoring.resampling import precision_recall_f1, ratio, resampled_errors
from ptv2_cli.scoring.scores import Array, Prediction, Scores, Statistics
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.texts import TextTask
from ptv2_cli.tasks.user_data import Names, TableOptions, UserTable, check_known

register_kind(
    KindSpec(
        "multilabel",
        answer="labels",
        answer_key="labels",
        pooled=True,
        epochs=30,
        blank=math.nan,
        dtype="float32",
        rates_of="sequence",
    )
)


class Options(TableOptions):
    """Open keys of `task: text/multilabel`."""

    label: Text = Field("labels", description="column of the labels: a list, or text")
    separator: Text = Field(";", description="between the labels where they are text")
    labels: Names | None = Field(None, description="the classes; default: those of train, sorted")


class MultiLabel(UserTable, TextTask):
    """Rows `{text columns..., labels: [...]}`; a label is predicted if it is likelier than not."""

    kind: ClassVar[str] = "multilabel"
    options_model: ClassVar[type[Section]] = Options
    definition: ClassVar[Definition] = Definition(
        version=1,
        text=("text",),
        label="labels",
        metrics=("f1_micro", "f1_macro", "exact_match"),
        metric="f1_micro",
        report=("validation",),
        max_len=256,
    )

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.labels = cast(Options, options).labels or ()

    def settle(self, source: DataSource) -> Task:
        """With the labels of the train file, if the config does not give them."""
        if self.labels:
            return self
        rows = self.train_values(source, self._labels_of)
        return self.with_options(labels=tuple(sorted(set().union(*rows))))

    def gold_of(self, line: RawRow, value: Any) -> list[str] | None:
        """The labels in a cell, sorted."""
        if value is None:
            return None
        labels = self._labels_of(line, value)
        for label in labels:
            check_known(line.where, "label", label, self.labels)
        return labels

    def _labels_of(self, line: RawRow, value: Any) -> list[str]:
        separator = cast(Options, self.options).separator
        parts = value.split(separator) if isinstance(value, str) else value
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            hint = "write a list of texts, or texts with the separator between them"
            raise DataError.at(line.where, f"labels {value!r}", hint)
        return sorted({part.strip() for part in parts} - {""})

    def _label(self, row: Row) -> list[float] | None:
        gold = self.gold(row)
        return None if gold is None else [float(label in gold) for label in self.labels]

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """How often each label is gold."""
        return Counter(label for row in rows for label in self.gold(row) or ())

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """The labels whose probability is above a half, and all probabilities."""
        lines: list[Prediction] = [{} for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            probabilities = dict(zip(self.labels, map(float, output["probabilities"]), strict=True))
            labels = [label for label, value in probabilities.items() if value > 0.5]
            lines[feature.row] = {"labels": labels, "probabilities": probabilities}
        return lines

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, 3 C + 2]: correct, predicted and gold by class; exact match; 1."""
        counts = []
        for row, line in zip(rows, predictions, strict=True):
            gold, predicted = set(self.gold(row)), set(line["labels"])
            by_class = [
                float(label in group)
                for group in (gold & predicted, predicted, gold)
                for label in self.labels
            ]
            counts.append([*by_class, float(gold == predicted), 1.0])
        return np.array(counts)

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """F1 over all labels, its mean over classes that occur, and the share of exact rows."""
        size = len(self.labels)
        correct, predicted, gold = (totals[..., at * size : (at + 1) * size] for at in range(3))
        by_class = precision_recall_f1(correct, predicted, gold)[2]
        present = ((predicted + gold) > 0).sum(axis=-1)
        return {
            "f1_micro": precision_recall_f1(
                correct.sum(axis=-1), predicted.sum(axis=-1), gold.sum(axis=-1)
            )[2],
            "f1_macro": ratio(by_class.sum(axis=-1), present),
            "exact_match": ratio(totals[..., -2], totals[..., -1]),
        }

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """All metrics, with standard errors by the bootstrap over rows."""
        self.require_gold(rows)
        statistics = self.row_statistics(rows, predictions)
        metrics = self.from_statistics(statistics.sum(axis=0))
        return self.scores(metrics, resampled_errors(statistics, self.from_statistics), {})

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """The labels that more than half of train has."""
        counts = self.tally(train)
        shares = {label: counts[label] / max(len(train), 1) for label in self.labels}
        labels = [label for label, share in shares.items() if share > 0.5]
        return [{"labels": labels, "probabilities": shares} for _ in rows]
