"""Classification of one text or a pair: SuperGLUE's RTE, BoolQ, CB and their like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ptv2_cli.config.schema import Section
from ptv2_cli.tasks.base import (
    Array,
    DataSource,
    Feature,
    Kind,
    Prediction,
    Row,
    Scores,
    Split,
    Statistics,
    Task,
)
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.formats import Line
from ptv2_cli.tasks.named_metrics import (
    AUROC,
    NAMED,
    NamedMetrics,
    auroc_error,
    named_scores,
)
from ptv2_cli.tasks.readers import check_label, check_text, read_split
from ptv2_cli.tasks.statistics import class_scores, mean_error, resampled_errors
from ptv2_cli.tasks.texts import FORMATS, TextTask


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
        update = {"metrics": (*(options.metrics or ()), metric)}
        return type(self)(self.name, self.definition, options.model_copy(update=update))

    def undefined(self, rows: Sequence[Row]) -> dict[str, str]:
        """auroc, where a class has no row; see Task.undefined."""
        if AUROC not in self.metrics:
            return {}
        missing = set(self.labels) - {row["label"] for row in rows if "label" in row}
        absent = [label for label in self.labels if label in missing]
        return {AUROC: f"no row of the class {absent[0]!r}"} if absent else {}

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read csv, tsv, jsonl or parquet files; see Task.read."""
        return read_split(self, source, split, limit, FORMATS, self._row)

    def _row(self, line: Line) -> Row:
        for column in self.definition.text:
            check_text(line, column)
        row = dict(line.values)
        value = row.pop(self.label_column, None)
        if value is not None:
            value = self.definition.values.get(str(value), value)
            row["label"] = check_label(line, value, self.labels)
        return row

    def _label(self, row: Row) -> int | None:
        return self.labels.index(row["label"]) if "label" in row else None

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
            found = output["probabilities"]
            lines[feature.row] = {
                "label": self.labels[int(np.argmax(found))],
                "probabilities": dict(zip(self.labels, map(float, found), strict=True)),
            }
        return lines

    def gold(self, row: Row) -> Any:
        """The label, None if unlabelled."""
        return row.get("label")

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """How often each label stands; see Task.tally."""
        return Counter(row["label"] for row in rows if "label" in row)

    def only_answer(self, rows: Sequence[Row]) -> str | None:
        """The label, where there is one alone; see Task.only_answer."""
        found = list(self.tally(rows))
        return f"the label {found[0]!r}" if len(found) == 1 else None

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, C*C]: one-hot of the row's cell (gold, predicted) of the confusion matrix."""
        size = len(self.labels)
        place = {label: index for index, label in enumerate(self.labels)}
        cells = [
            place[row["label"]] * size + place[line["label"]]
            for row, line in zip(rows, predictions, strict=True)
        ]
        found = np.zeros((len(rows), size * size))
        found[np.arange(len(rows)), cells] = 1
        return found

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """All metrics but auroc from summed confusion cells [..., C*C]."""
        size = len(self.labels)
        scores = class_scores(totals.reshape(*totals.shape[:-1], size, size))
        return {name: scores[name] for name in self.metrics if name in scores}

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """accuracy and what else is asked for; per class and confusion under detail.

        A metric that the rows leave undefined is not there; see Task.undefined and Task.score.
        """
        from ptv2_cli.tasks.metrics import Accuracy, MacroF1

        self.require_gold(rows)
        place = {label: index for index, label in enumerate(self.labels)}
        guess = [place[line["label"]] for line in predictions]
        truth = [place[row["label"]] for row in rows]
        metrics = Accuracy().compute(predictions=guess, references=truth)
        if "f1_macro" in self.metrics:
            metrics |= MacroF1().compute(predictions=guess, references=truth)
        statistics = self.row_statistics(rows, predictions)
        errors = resampled_errors(statistics, self.from_statistics)
        errors["accuracy"] = mean_error(np.equal(guess, truth).astype(float))
        further = [name for name in self.metrics if name not in metrics]
        if further:
            given = [line["probabilities"] for line in predictions]
            found = np.array([[line[label] for label in self.labels] for line in given])
            metrics |= named_scores(further, truth, guess, found)
            error = auroc_error(truth, found) if AUROC in metrics else None
            errors |= {} if error is None else {AUROC: error}
        return Scores(
            metrics={name: float(metrics[name]) for name in self.metrics if name in metrics},
            detail=self._detail(statistics.sum(axis=0)),
            standard_error=errors[self.metric],
            standard_errors=errors,
        )

    def _detail(self, totals: Statistics) -> dict[str, Any]:
        size = len(self.labels)
        confusion = totals.reshape(size, size)
        scores = class_scores(confusion)
        classes = {
            label: {
                "precision": float(scores["class_precision"][index]),
                "recall": float(scores["class_recall"][index]),
                "f1": float(scores["class_f1"][index]),
                "support": int(confusion[index].sum()),
            }
            for index, label in enumerate(self.labels)
        }
        cells = {
            gold: dict(zip(self.labels, map(int, confusion[index]), strict=True))
            for index, gold in enumerate(self.labels)
        }
        return {"classes": classes, "confusion": cells}

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """The most frequent train label (the first in order of equals), with train's shares."""
        counts = Counter(row["label"] for row in train if "label" in row)
        total = sum(counts.values())
        if not total:
            return None
        best = max(self.labels, key=lambda label: counts[label])
        shares = {label: counts[label] / total for label in self.labels}
        return [{"label": best, "probabilities": shares} for _ in rows]
