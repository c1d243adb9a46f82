"""A person's own questions on paragraphs, in any language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from ptv2_cli.config.schema import Flag, Section
from ptv2_cli.errors import DataError
from ptv2_cli.tasks import cmrc, squad
from ptv2_cli.tasks.base import DataSource, Prediction, Row, Scores, Split
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.formats import Line
from ptv2_cli.tasks.own import LABELLED, from_train
from ptv2_cli.tasks.readers import check_question, question_place, read_split
from ptv2_cli.tasks.script import is_unspaced
from ptv2_cli.tasks.span import QuestionAnswering, QuestionAnsweringOptions

FORMATS = ("squad", ".jsonl", ".parquet")
MEANING = {
    "squad": "F1 over words, as SQuAD",
    "char": "F1 over characters, as CMRC 2018",
}


class OwnQuestionAnsweringOptions(QuestionAnsweringOptions):
    """Open keys of `task: text/qa`."""

    metric: Literal["auto", "squad", "char"] = Field(
        "auto",
        description="squad: F1 over words; char: over characters, as CMRC 2018; auto: char where "
        "train's answers are in a script without spaces",
    )
    no_answer: Flag | None = Field(
        None, description="whether questions may have no answer; default: whether train's may"
    )


class OwnQuestionAnswering(QuestionAnswering):
    """Rows as those of QuestionAnswering; what may be unanswerable is found in train."""

    options_model: ClassVar[type[Section]] = OwnQuestionAnsweringOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        own = cast(OwnQuestionAnsweringOptions, options)
        # Not known yet means that it may be: then nothing is refused before train was read.
        may = own.no_answer is not False
        super().__init__(name, definition.model_copy(update={"no_answer": may}), options)
        self.options: OwnQuestionAnsweringOptions = own
        self.compare = cmrc.best_over if own.metric == "char" else squad.best_over

    def settle(self, source: DataSource) -> OwnQuestionAnswering:
        """With the metric that suits train's answers, and whether it lacks some; see Task.settle.

        Raises:
            ConfigError: a threshold for no answer where every question has one.
        """
        if self.options.metric != "auto" and self.options.no_answer is not None:
            return self
        make = lambda line: self.gold(self._labelled(line))  # noqa: E731
        golds = from_train(self, source, FORMATS, make)
        script = "char" if is_unspaced(text for gold in golds for text in gold) else "squad"
        asked = self.options
        found = {
            "metric": script if asked.metric == "auto" else asked.metric,
            "no_answer": not all(golds) if asked.no_answer is None else asked.no_answer,
        }
        options = asked.model_copy(update=found)
        return OwnQuestionAnswering(self.name, self.definition, options)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read SQuAD json, jsonl or parquet files; see Task.read."""
        make = self._labelled if split in LABELLED else self._row
        return read_split(self, source, split, limit, FORMATS, make)

    def _labelled(self, line: Line) -> Row:
        row = self._row(line)
        if "answers" not in row:
            hint = 'write "answers": [{"text": "...", "answer_start": CHARACTER}]'
            raise DataError.at(question_place(line), "the question has no answers", hint)
        return row

    def _row(self, line: Line) -> Row:
        hint = "no question of train is so: add one, or write task: {no_answer: true}"
        row = check_question(line, self.no_answer, hint)
        for column in self.columns:
            if not row[column].strip():
                raise DataError.at(question_place(line), f"the {column} is empty", "write it")
        return row

    @property
    def identity(self) -> dict[str, Any]:
        """With `metric`, which says what the F1 is over."""
        return {**super().identity, "metric": self.options.metric}

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """exact_match and f1; under detail what f1 is over; see Task.score."""
        found = super().score(rows, predictions)
        meaning = MEANING["char" if self.options.metric == "char" else "squad"]
        return Scores(
            found.metrics,
            {**found.detail, "metric": meaning},
            found.standard_error,
            found.standard_errors,
        )
