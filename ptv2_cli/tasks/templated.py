"""Classification whose input a template of the task's writes: WiC, WSC, MultiRC."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
from pydantic import Field

from ptv2_cli.config.fields import Text
from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow, unknown_column
from ptv2_cli.data.row_checks import index_of, inner, is_index, numbered
from ptv2_cli.data.rows import Row
from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.scoring.resampling import mean_error, ratio, resampled_errors
from ptv2_cli.scoring.scores import Prediction, Scores, Statistics
from ptv2_cli.tasks.classification import Classification
from ptv2_cli.tasks.definition import Definition, PlaceSection
from ptv2_cli.tasks.user_data import NamedMetrics


class TemplatedOptions(Section):
    """Open keys of `task:` for inputs that a template of the task's writes."""

    template: Text | None = Field(
        None,
        description="how columns become input, WiC: sentences or word; default: the task's first",
    )


class TemplatedClassificationOptions(NamedMetrics, TemplatedOptions):
    """Open keys of `task:` for such inputs whose rows are scored one by one."""


class Templated(Classification):
    """Rows `{text columns..., label}`; the input is that of one of the task's templates.

    `columns` are the template's input columns, which is what a prompt's template may name.
    """

    options_model: ClassVar[type[Section]] = TemplatedClassificationOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        known = definition.templates
        chosen = cast(TemplatedOptions, options).template or next(iter(known))
        if chosen not in known:
            raise ConfigError.at(
                "task.template",
                f"{name} has no template {chosen!r}",
                f"its templates are {', '.join(known)}",
            )
        self.options = options.model_copy(update={"template": chosen})
        self.patterns = known[chosen]
        self.columns = tuple(self.patterns)

    def texts(self, row: Row) -> Mapping[str, Any]:
        """The input's texts by column, as the template writes them."""
        return {column: pattern.format_map(row) for column, pattern in self.patterns.items()}

    def content(self, row: Row) -> tuple[Any, ...]:
        """The input's texts."""
        return tuple(self.texts(row).values())

    def texts_by_column(self, row: Row) -> dict[str, str]:
        """The texts of which the input is written; see Task.texts_by_column."""
        return {column: str(row[column]) for column in self.definition.text}

    def expand(self, line: RawRow) -> Iterator[RawRow]:
        """The line with the values of its nested object as columns; see Task.expand."""
        key = self.definition.nested
        if key is None or key not in line.values:
            yield line
            return
        values = inner(line, line.values, key, "object", "the row")
        rest = {name: value for name, value in line.values.items() if name != key}
        yield replace(line, values={**rest, **values})

    def _row(self, line: RawRow) -> Row:
        row = super()._row(line)
        for place in self.definition.places:
            check_place(line, place)
        return row


def check_place(line: RawRow, place: PlaceSection) -> None:
    """See that indices of a row are ones of its text; a row may leave them out.

    Raises:
        DataError: they are not, or one of two is missing.
    """
    names = [place.start] if place.end is None else [place.start, place.end]
    found = [line.values.get(name) for name in names]
    if found == [None] * len(found):
        return
    missing = next((name for name in names if name not in line.values), None)
    if missing is not None:
        raise unknown_column(line.where, missing, line.values)
    text = line.values[place.text]
    # Words are parted by single spaces: two of them have an empty word between them.
    size = len(re.split(r"\s", text)) if place.end is None else len(text)
    first, last = found[0], found[-1]
    if is_index(first) and is_index(last):
        inside = first < size if place.end is None else first < last <= size
        if inside:
            return
    what = ", ".join(f"{name} {at!r}" for name, at in zip(names, found, strict=True))
    unit = "words" if place.end is None else "characters"
    raise DataError.at(
        line.where,
        f"{what} outside of column {place.text!r}, which has {size} {unit}",
        f"{unit} are counted from 0",
    )


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

    def expand(self, line: RawRow) -> Iterator[RawRow]:
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

    def _row(self, line: RawRow) -> Row:
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
        sums = np.zeros((len(rows), 5))
        for index, (row, line) in enumerate(zip(rows, predictions, strict=True)):
            leader = first.setdefault(self.unit(row), index)
            if leader == index:
                sums[index, 3:] = 1
            gold, guess = map(self.labels.index, (self.gold(row), line["label"]))
            sums[leader, :3] += (gold and guess, guess, gold)
            sums[leader, 3] *= gold == guess
        return sums

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """f1_a and exact_match from sums [..., 5]."""
        return {
            "f1_a": ratio(2 * totals[..., 0], totals[..., 1] + totals[..., 2]),
            "exact_match": ratio(totals[..., 3], totals[..., 4]),
        }

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """f1_a over all answers and exact_match over questions; see Task.score."""
        from ptv2_cli.scoring.evaluate_metrics import AnswerOptions

        self.require_gold(rows)
        questions = [repr(self.unit(row)) for row in rows]
        guess = [self.labels.index(line["label"]) for line in predictions]
        scores = AnswerOptions().compute(
            predictions=[
                {"question": question, "label": label}
                for question, label in zip(questions, guess, strict=True)
            ],
            references=[self.labels.index(self.gold(row)) for row in rows],
        )
        statistics = self.row_statistics(rows, predictions)
        statistics = statistics[statistics[:, 4] > 0]
        errors = resampled_errors(statistics, self.from_statistics)
        errors["exact_match"] = mean_error(statistics[:, 3])
        confusion = Classification.row_statistics(self, rows, predictions).sum(axis=0)
        detail = {"rows_scored_as": {"questions": len(statistics)}, **self._detail(confusion)}
        return self.scores(scores, errors, detail)

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """Every answer is right: of the two constant answers the one of which F1a is not 0."""
        lines = super().majority(train, rows)
        return None if lines is None else [{**line, "label": self.labels[1]} for line in lines]
