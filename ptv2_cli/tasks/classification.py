"""Classification of one text or a pair: RTE, BoolQ, CB and their like, and the user's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
from pydantic import Field, field_validator

from ptv2_cli.config.fields import impossible
from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.readers import read_split
from ptv2_cli.data.row_checks import check_label, check_text
from ptv2_cli.data.row_store import column_values, once
from ptv2_cli.data.rows import DataSource, Row, Split
from ptv2_cli.errors import DataError
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import Kind
from ptv2_cli.scoring.metrics import AUROC, NAMED, auroc_error, named_scores
from ptv2_cli.scoring.resampling import class_detail, class_scores, mean_error, resampled_errors
from ptv2_cli.scoring.scores import Array, Prediction, Scores, Statistics
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.texts import FORMATS, TextTask
from ptv2_cli.tasks.user_data import (
    NamedMetrics,
    Names,
    TableOptions,
    UserTable,
    as_label,
    check_known,
    in_order,
)


class ClassificationOptions(NamedMetrics):
    """Open keys of `task:` for classification."""


class Classification(TextTask):
    """Rows `{text columns..., label}`; the label is one of `labels`, absent if unlabelled."""

    kind: ClassVar[Kind] = "sequence"
    options_model: ClassVar[type[Section]] = ClassificationOptions
    further_metrics: tuple[str, ...] = NAMED

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.label_column = definition.label
        asked = options.metrics if isinstance(options, NamedMetrics) else None
        self.metrics = tuple(dict.fromkeys((*definition.metrics, *(asked or ()))))

    def measuring(self, metric: str) -> Task:
        """With `metric` among its own where it has it by name; see Task.measuring."""
        options = self.options
        known = metric in self.further_metrics and metric not in self.metrics
        if not known or not isinstance(options, NamedMetrics):
            return self
        return self.with_options(metrics=(*(options.metrics or ()), metric))

    def undefined(self, rows: Sequence[Row]) -> dict[str, str]:
        """auroc, where a class has no row; see Task.undefined."""
        if AUROC not in self.metrics:
            return {}
        missing = set(self.labels) - set(self.tally(rows))
        absent = [label for label in self.labels if label in missing]
        return {AUROC: f"no row of the class {absent[0]!r}"} if absent else {}

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read csv, tsv, jsonl or parquet files; see Task.read."""
        return read_split(self, source, split, limit, FORMATS, self._row)

    def _row(self, line: RawRow) -> Row:
        for column in self.definition.text:
            check_text(line, column)
        row = dict(line.values)
        value = row.pop(self.label_column, None)
        if value is not None:
            value = self.definition.values.get(str(value), value)
            row["label"] = check_label(line, value, self.labels)
        return row

    def _label(self, row: Row) -> int | None:
        gold = self.gold(row)
        return None if gold is None else self.labels.index(gold)

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """The most probable label (the first of equals) and all probabilities."""
        lines: list[Prediction] = [{} for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            probabilities = output["probabilities"]
            lines[feature.row] = {
                "label": self.labels[int(np.argmax(probabilities))],
                "probabilities": dict(zip(self.labels, map(float, probabilities), strict=True)),
            }
        return lines

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """How often each label stands; see Task.tally."""

        def count() -> Counter[str]:
            return Counter(
                label for label in column_values(rows, self.gold_key) if label is not None
            )

        return once(rows, ("labels", self.gold_key), count).copy()

    def only_answer(self, rows: Sequence[Row]) -> str | None:
        """The label, where there is one alone; see Task.only_answer."""
        labels = list(self.tally(rows))
        return f"the label {labels[0]!r}" if len(labels) == 1 else None

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, C*C]: one-hot of the row's cell (gold, predicted) of the confusion matrix."""
        size = len(self.labels)
        index_of = {label: index for index, label in enumerate(self.labels)}
        cells = [
            index_of[self.gold(row)] * size + index_of[line["label"]]
            for row, line in zip(rows, predictions, strict=True)
        ]
        counts = np.zeros((len(rows), size * size))
        counts[np.arange(len(rows)), cells] = 1
        return counts

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """All metrics but auroc from summed confusion cells [..., C*C]."""
        size = len(self.labels)
        scores = class_scores(totals.reshape(*totals.shape[:-1], size, size))
        return {name: scores[name] for name in self.metrics if name in scores}

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """accuracy and what else is asked for; per class and confusion under detail.

        A metric that the rows leave undefined is not there; see Task.undefined and Task.score.
        """
        from ptv2_cli.scoring.evaluate_metrics import Accuracy, MacroF1

        self.require_gold(rows)
        index_of = {label: index for index, label in enumerate(self.labels)}
        guess = [index_of[line["label"]] for line in predictions]
        truth = [index_of[self.gold(row)] for row in rows]
        metrics = Accuracy().compute(predictions=guess, references=truth)
        if "f1_macro" in self.metrics:
            metrics |= MacroF1().compute(predictions=guess, references=truth)
        statistics = self.row_statistics(rows, predictions)
        errors = resampled_errors(statistics, self.from_statistics)
        errors["accuracy"] = mean_error(np.equal(guess, truth).astype(float))
        further = [name for name in self.metrics if name not in metrics]
        if further:
            by_label = [line["probabilities"] for line in predictions]
            probabilities = np.array([[line[label] for label in self.labels] for line in by_label])
            metrics |= named_scores(further, truth, guess, probabilities)
            error = auroc_error(truth, probabilities) if AUROC in metrics else None
            errors |= {} if error is None else {AUROC: error}
        return self.scores(metrics, errors, self._detail(statistics.sum(axis=0)))

    def _detail(self, totals: Statistics) -> dict[str, Any]:
        size = len(self.labels)
        classes, cells = class_detail(self.labels, totals.reshape(size, size))
        return {"classes": classes, "confusion": cells}

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """The most frequent train label (the first in order of equals), with train's shares."""
        counts = self.tally(train)
        if not counts:
            return None
        best = max(self.labels, key=lambda label: counts[label])
        shares = {label: counts[label] / counts.total() for label in self.labels}
        return [{"label": best, "probabilities": shares} for _ in rows]


MANY = 50
"""More labels than this, and most of them on one row alone, are no classes."""


class UserClassificationOptions(NamedMetrics, TableOptions):
    """Open keys of `task: text/classification`."""

    labels: Names | None = Field(
        None, description="the classes in order; default: those of the train file, sorted"
    )

    @field_validator("labels")
    @classmethod
    def _at_least_two(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (len(value) < 2 or len(set(value)) != len(value)):
            raise impossible("names two or more different labels", "write labels: [no, yes]")
        return value


class UserClassification(UserTable, Classification):
    """Rows `{text columns..., label, ...}` of the user's own table."""

    options_model: ClassVar[type[Section]] = UserClassificationOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.labels = cast(UserClassificationOptions, options).labels or ()

    def settle(self, source: DataSource) -> Task:
        """With the labels of the train file, if the config does not give them; see Task.settle."""
        if self.labels:
            return self
        counts = Counter(self.train_values(source, lambda line, value: as_label(value)))
        labels = in_order(counts)
        where = ", ".join(map(str, source.files("train")))
        name = self.label_column
        if len(labels) == 1:
            what = f"column {name!r} holds {labels[0]!r} in every row: nothing to learn"
            raise DataError.at(where, what, "task.label names the column that tells rows apart")
        if len(labels) > MANY and 2 * len(labels) > counts.total():
            total = counts.total()
            what = f"column {name!r} holds {len(labels)} different labels in {total} rows"
            hint = "task.label names the column of the class; for numbers use task: text/regression"
            raise DataError.at(where, what, hint)
        return self.with_options(labels=labels)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read a table, noting labels that differ by spaces around them; see Task.read."""
        split_read = super().read(source, split, limit)
        spellings: dict[str, Counter[str]] = {}
        values = column_values(split_read.rows, self.label_column, of_source=True)
        for value, times in Counter(value for value in values if isinstance(value, str)).items():
            spellings.setdefault(value.strip(), Counter())[value] = times
        notes = [
            f"labels of {split} that differ by spaces around them are read as one: "
            + " and ".join(f"{name!r} ({count})" for name, count in counts.most_common())
            for counts in spellings.values()
            if len(counts) > 1
        ]
        return replace(split_read, notes=(*split_read.notes, *notes))

    def gold_of(self, line: RawRow, value: Any) -> str | None:
        """The label as text; see UserTable.gold_of."""
        if value is None:
            return None
        label = as_label(value)
        if label not in self.labels:
            check_known(line.where, "label", label, self.labels)
        return label
