"""Questions with choices, one of which is right: COPA and its like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from ptv2_cli.tasks.choices import check_choices, check_index, choices_of
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.encoder import Encoder
from ptv2_cli.tasks.formats import Line
from ptv2_cli.tasks.readers import check_label, check_text, read_split
from ptv2_cli.tasks.statistics import class_scores, mean_error, ratio
from ptv2_cli.tasks.texts import FORMATS, encode_texts

CHOICE = "choice"
"""The column that a choice's own text is in where inputs are made: `{choice}` of a template."""


class ChoiceOptions(Section):
    """A benchmark of choices has no option of its own."""


class Choice(Task):
    """Rows `{text columns..., columns of the choices, label: INDEX}`, the first choice being 0.

    Each choice is one input: the pair (text; choice). Of two text columns the second stands
    before each choice: (text; text choice). A template has every column by its name.
    """

    kind: ClassVar[Kind] = "choice"
    options_model: ClassVar[type[Section]] = ChoiceOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.label_column = definition.label
        self._take_columns(definition.text, definition.choices)

    def _take_columns(self, text: tuple[str, ...], choices: tuple[str, ...]) -> None:
        self.text = text
        self.choice_columns = choices
        self.columns = (*text, CHOICE)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read csv, tsv, jsonl or parquet files; see Task.read."""
        return read_split(self, source, split, limit, FORMATS, self._row)

    def _row(self, line: Line) -> Row:
        for column in self.text:
            check_text(line, column)
        if self.definition.joiner is not None:
            joiner = self.definition.joiner
            check_label(line, check_text(line, joiner.column), tuple(joiner.words))
        choices = check_choices(line, self.choice_columns)
        row = dict(line.values)
        value = row.pop(self.label_column, None)
        if value is not None:
            value = self.definition.values.get(str(value), value)
            row["label"] = check_index(line, value, len(choices))
        return row

    def content(self, row: Row) -> tuple[Any, ...]:
        """The texts and all choices."""
        texts = (row.get(column) for column in self.text)
        return (*texts, *choices_of(row, self.choice_columns))

    def texts_by_column(self, row: Row) -> dict[str, str]:
        """The texts without the choices; see Task.texts_by_column."""
        return {column: str(row[column]) for column in self.text}

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> list[Feature]:
        """One feature per row, with an input for each of its choices; see Task.encode."""
        pair = encoder.template is None
        columns = (self.columns[0], CHOICE) if pair else self.columns
        choices = [choices_of(row, self.choice_columns) for row in rows]
        texts = [
            self._texts(row, choice, pair)
            for row, found in zip(rows, choices, strict=True)
            for choice in found
        ]
        inputs = iter(encode_texts(columns, texts, encoder))
        return [
            _question(index, row.get("label"), [next(inputs) for _ in found])
            for index, (row, found) in enumerate(zip(rows, choices, strict=True))
        ]

    def _texts(self, row: Row, choice: str, pair: bool) -> dict[str, str]:
        """The texts of one input by column."""
        texts = {column: str(row[column]) for column in self.text}
        if self.definition.joiner is not None:
            joiner = self.definition.joiner
            texts[self.text[-1]] += f" {joiner.words[row[joiner.column]]}"
        before = list(texts.values())[1:] if pair else []
        return {**texts, CHOICE: " ".join([*before, choice])}

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """The index of the most probable choice (the first of equals) and all probabilities."""
        lines: list[Prediction] = [{} for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            found = output["probabilities"]
            lines[feature.row] = {
                "label": int(np.argmax(found)),
                "probabilities": {str(index): float(p) for index, p in enumerate(found)},
            }
        return lines

    def gold(self, row: Row) -> Any:
        """The index of the right choice, None if unlabelled."""
        return row.get("label")

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """How often the right choice stands at each place; see Task.tally."""
        return Counter(f"choice {row['label']}" for row in rows if "label" in row)

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, 2]: whether the row is right, and 1."""
        pairs = zip(rows, predictions, strict=True)
        right = [float(row["label"] == line["label"]) for row, line in pairs]
        return np.stack([np.array(right), np.ones(len(rows))], axis=1)

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """accuracy from summed rows [..., 2]."""
        return {"accuracy": ratio(totals[..., 0], totals[..., 1])}

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """accuracy; by index, and how often which stood for which, under detail."""
        from ptv2_cli.tasks.metrics import Accuracy

        self.require_gold(rows)
        guess = [line["label"] for line in predictions]
        truth = [row["label"] for row in rows]
        metrics = Accuracy().compute(predictions=guess, references=truth)
        error = mean_error(np.equal(guess, truth).astype(float))
        return Scores(
            metrics={name: float(value) for name, value in metrics.items()},
            detail=_detail(guess, truth),
            standard_error=error,
            standard_errors={"accuracy": error},
        )

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """The index that is most often right in train, among those that the row has."""
        counts = Counter(row["label"] for row in train if "label" in row)
        if not counts:
            return None
        sizes = [len(choices_of(row, self.choice_columns)) for row in rows]
        return [_most(counts, size) for size in sizes]


def _question(row: int, label: int | None, inputs: Sequence[Feature]) -> Feature:
    """The feature of a question out of those of its choices."""
    longest = max(inputs, key=lambda item: len(item.input_ids))
    return replace(
        longest,
        row=row,
        label=label,
        truncated=any(item.truncated for item in inputs),
        choices=tuple(replace(item, row=row) for item in inputs),
    )


def _most(counts: Mapping[int, int], size: int) -> Prediction:
    shares = np.array([counts.get(index, 0) for index in range(size)], dtype=float)
    shares = shares / shares.sum() if shares.any() else np.full(size, 1 / size)
    found = {str(index): float(share) for index, share in enumerate(shares)}
    return {"label": int(np.argmax(shares)), "probabilities": found}


def _detail(guess: Sequence[int], truth: Sequence[int]) -> dict[str, Any]:
    """Scores and confusion of the places that choices stand at: a model should favour none."""
    size = max(*guess, *truth) + 1
    confusion = np.zeros((size, size))
    np.add.at(confusion, (np.asarray(truth), np.asarray(guess)), 1)
    scores = class_scores(confusion)
    names = [str(index) for index in range(size)]
    figures = ("precision", "recall", "f1")
    return {
        "choices": {
            name: {
                **{figure: float(scores[f"class_{figure}"][at]) for figure in figures},
                "support": int(confusion[at].sum()),
            }
            for at, name in enumerate(names)
        },
        "confusion": {
            name: dict(zip(names, map(int, confusion[at]), strict=True))
            for at, name in enumerate(names)
        },
    }
