"""Rows that are scored in groups: the answers to a question, any number of them right (MultiRC).

The metrics are MultiRC's (Khashabi et al. 2018, "Looking Beyond the Surface"), of which SuperGLUE
(arXiv 1905.00537) reports F1 over all answers and the exact match of each question's answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from ptv2_cli.config.schema import Section
from ptv2_cli.errors import DataError
from ptv2_cli.tasks.base import Prediction, Row, Scores, Statistics
from ptv2_cli.tasks.classify import Classification
from ptv2_cli.tasks.formats import Line
from ptv2_cli.tasks.nested import index_of, inner, is_index, numbered
from ptv2_cli.tasks.statistics import mean_error, ratio, resampled_errors
from ptv2_cli.tasks.templated import Templated, TemplatedOptions

_PLACE = ("paragraph", "question")


class Grouped(Templated):
    """Rows `{paragraph, question, answer, idx: {paragraph, question, answer}, label}`.

    Of the two labels the second says that the answer is right. Files hold such rows, as the
    hub's do, or a passage per line with its questions and their answers, as the official ones do.
    """

    options_model: ClassVar[type[Section]] = TemplatedOptions
    further_metrics = ()
    origin: ClassVar[str | None] = "paragraph"

    @property
    def classed(self) -> bool:
        """False: the answers to a question are no rows of their own."""
        return False

    def expand(self, line: Line) -> Iterator[Line]:
        """A row for every answer to every question on the line's passage; see Task.expand."""
        if "passage" not in line.values:
            yield line
            return
        passage = inner(line, line.values, "passage", "object", "the row")
        paragraph = inner(line, passage, "text", "text", "the passage")
        number = index_of(line, line.values, (line.number or 1) - 1)
        rest = {key: value for key, value in line.values.items() if key not in {"passage", "idx"}}
        for place, question in numbered(line, passage, "questions", "the passage", "question"):
            asked = replace(line, part=f"question {place + 1}")
            text = inner(asked, question, "question", "text", "it")
            idx = {"paragraph": number, "question": index_of(asked, question, place)}
            for at, answer in numbered(asked, question, "answers", "it", "answer"):
                one = replace(asked, part=f"question {place + 1}, answer {at + 1}")
                values = {
                    **rest,
                    "paragraph": paragraph,
                    "question": text,
                    "answer": inner(one, answer, "text", "text", "it"),
                    "idx": {**idx, "answer": index_of(one, answer, at)},
                }
                if self.label_column in answer:
                    values["label"] = answer[self.label_column]
                yield replace(one, values=values)

    def _row(self, line: Line) -> Row:
        row = super()._row(line)
        idx = row.get("idx")
        if isinstance(idx, Mapping) and not all(is_index(idx.get(key)) for key in _PLACE):
            hint = "it is {paragraph: NUMBER, question: NUMBER, answer: NUMBER}"
            raise DataError.at(line.where, f"idx {idx!r}", hint)
        return row

    def unit(self, row: Row) -> Hashable:
        """The question, by its idx where rows have one."""
        idx = row.get("idx")
        if isinstance(idx, Mapping):
            return tuple(idx[key] for key in _PLACE)
        return tuple(row[key] for key in _PLACE)

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, 5]: right answers found, predicted, gold; question all right, 1.

        All stands in the row of a question's first answer and zeros in the others, so that a
        sample of rows is one of whole questions.
        """
        first: dict[Hashable, int] = {}
        found = np.zeros((len(rows), 5))
        for at, (row, line) in enumerate(zip(rows, predictions, strict=True)):
            leader = first.setdefault(self.unit(row), at)
            if leader == at:
                found[at, 3:] = 1
            gold, guess = (self.labels.index(item["label"]) for item in (row, line))
            found[leader, :3] += (gold and guess, guess, gold)
            found[leader, 3] *= gold == guess
        return found

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """f1_a and exact_match from sums [..., 5]."""
        return {
            "f1_a": ratio(2 * totals[..., 0], totals[..., 1] + totals[..., 2]),
            "exact_match": ratio(totals[..., 3], totals[..., 4]),
        }

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """f1_a over all answers and exact_match over questions; see Task.score."""
        from ptv2_cli.tasks.metrics import AnswerOptions

        self.require_gold(rows)
        questions = [repr(self.unit(row)) for row in rows]
        guess = [self.labels.index(line["label"]) for line in predictions]
        found = AnswerOptions().compute(
            predictions=[
                {"question": question, "label": label}
                for question, label in zip(questions, guess, strict=True)
            ],
            references=[self.labels.index(row["label"]) for row in rows],
        )
        statistics = self.row_statistics(rows, predictions)
        statistics = statistics[statistics[:, 4] > 0]
        errors = resampled_errors(statistics, self.from_statistics)
        errors["exact_match"] = mean_error(statistics[:, 3])
        confusion = Classification.row_statistics(self, rows, predictions).sum(axis=0)
        return Scores(
            metrics={name: float(found[name]) for name in self.metrics},
            detail={"rows_scored_as": {"questions": len(statistics)}, **self._detail(confusion)},
            standard_error=errors[self.metric],
            standard_errors=errors,
        )

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """Every answer is right: of the two constant answers the one of which F1a is not 0."""
        counts = Counter(row["label"] for row in train if "label" in row)
        total = sum(counts.values())
        if not total:
            return None
        shares = {label: counts[label] / total for label in self.labels}
        return [{"label": self.labels[1], "probabilities": shares} for _ in rows]
