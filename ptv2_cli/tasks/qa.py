"""Extractive question answering: a span of the context answers, as in SQuAD 1.1 and 2.0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from ptv2_cli.config.fields import Count, Flag
from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.readers import read_split
from ptv2_cli.data.row_checks import check_question, question_place
from ptv2_cli.data.rows import DataSource, Row, Split
from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Feature, Label
from ptv2_cli.inputs.labels import Labels
from ptv2_cli.inputs.ragged import places
from ptv2_cli.inputs.windows import token_windows
from ptv2_cli.kinds import Kind
from ptv2_cli.scoring import cmrc, squad
from ptv2_cli.scoring.scores import Array, Prediction
from ptv2_cli.scoring.squad import best_threshold
from ptv2_cli.tasks.answers import AnswerTask
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.spans import answer_line, answer_tokens, visible_spans
from ptv2_cli.tasks.user_data import LABELLED, from_train


class QuestionAnsweringOptions(Section):
    """Open keys of `task:` for question answering."""

    stride: int = Field(
        128,
        ge=0,
        description="tokens that neighbouring windows of a long context share, at most half",
    )
    null_threshold: float | Literal["tuned"] | None = Field(
        None,
        description="answer nothing when its score exceeds the best answer's by more than this; "
        "tuned: the value of best F1 on the selection split; default: 0 where that may be right",
    )
    n_best: Count = Field(20, description="answers kept per question")
    max_answer_len: Count = Field(30, description="longest answer, in tokens")


_Window = tuple[int, int, int, int, tuple[int, int] | None]
"""Row, tokens of its question, the first of the context's tokens and how many, and the first and
last of them that are the answer; None: unlabelled."""
NOT_HERE = (-1, -1)
"""The answer of a window that does not hold it."""


class _Contexts:
    """The tokens of the rows' contexts; one that many rows ask about is tokenized once."""

    def __init__(self, texts: Sequence[str], spaced: bool, encoder: Encoder) -> None:
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        self._numbers = [numbers[text] for text in texts]
        pieces = encoder.tokenize_with_offsets(list(numbers), spaced)
        self.ids = pieces.ids
        self._starts = pieces.ids.starts.tolist()
        ends = pairwise(self._starts)
        spans = [
            visible_spans(text, pieces.offsets[start:end])
            for text, (start, end) in zip(numbers, ends, strict=True)
        ]
        self.spans = np.concatenate([np.empty((0, 2), np.int32), *spans])
        """The characters of every token [N, 2]; see `visible_spans`."""

    def tokens_of(self, row: int) -> tuple[int, int]:
        """The first of the tokens of a row's context, and the place after the last."""
        number = self._numbers[row]
        return self._starts[number], self._starts[number + 1]


class QuestionAnswering(AnswerTask):
    """Rows `{id, question, context, answers: [{text, answer_start}]}`.

    No answers: unanswerable. `answers` absent: unlabelled.
    """

    kind: ClassVar[Kind] = "span"
    unweighted = "the places of an answer are no classes"
    options_model: ClassVar[type[Section]] = QuestionAnsweringOptions
    origin: ClassVar[str | None] = "context"

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.options: QuestionAnsweringOptions = cast(QuestionAnsweringOptions, options)
        self.no_answer = definition.no_answer
        if not self.no_answer and self.options.null_threshold is not None:
            raise ConfigError.at(
                "task.null_threshold",
                f"every question of {name} has an answer: there is nothing to threshold",
                "leave it out, or use task: qa/squad_v2",
            )

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read SQuAD json, jsonl or parquet files; see Task.read."""
        return read_split(self, source, split, limit, ("squad", ".jsonl", ".parquet"), self._row)

    def _row(self, line: RawRow) -> Row:
        return check_question(line, self.no_answer)

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """SQuAD 2.0 says in three columns what the answer is."""
        return ("answers", "is_impossible", "plausible_answers")

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> FeatureTable:
        """Windows over the context, each after the whole question; see Task.encode.

        A question that leaves the context less than half of the room is cut to that half.
        """
        layout = encoder.layout(self.columns, closed=True)
        spaced = {text.name: text.spaced for text in layout.texts}
        question, context = self.columns
        questions = encoder.tokenize_all(
            [row["question"].strip() for row in rows], spaced[question]
        )
        contexts = _Contexts([row["context"] for row in rows], spaced[context], encoder)
        room = encoder.max_len - layout.overhead
        windows = [
            window
            for index, row in enumerate(rows)
            for window in self._windows(index, row, int(questions.lengths[index]), contexts, room)
        ]
        columns = np.array([window[:4] for window in windows], np.int64).reshape(-1, 4)
        row_of, asked, begins, lengths = columns.T
        built = layout.build(
            {
                question: questions.cut(questions.starts[row_of], asked),
                context: contexts.ids.cut(begins, lengths),
            }
        )
        starts = built.starts[context]
        offsets = np.full((len(built.ids.values), 2), -1, np.int32)
        offsets[places(starts, lengths)] = contexts.spans[places(begins, lengths)]
        truncated = asked < questions.lengths[row_of]
        labels: list[Label] = []
        inner = (starts - built.ids.starts[:-1]).tolist()
        for (*_, answer), at, cls_at in zip(windows, inner, built.cls_at.tolist(), strict=True):
            if answer is None:
                labels.append(None)
            elif answer == NOT_HERE:
                labels.append((cls_at, cls_at))
            else:
                labels.append((at + answer[0], at + answer[1]))
        return FeatureTable(
            ids=built.ids,
            rows=row_of.astype(np.int32),
            types=built.types,
            labels=Labels.of(labels),
            slots=built.slots,
            mask_at=built.mask_at,
            offsets=offsets,
            cls_at=built.cls_at if built.cls_at.any() else None,
            truncated=truncated if truncated.any() else None,
        )

    def _windows(
        self, index: int, row: Row, question: int, contexts: _Contexts, room: int
    ) -> Iterator[_Window]:
        """The windows of a row, whose question has `question` tokens."""
        first, end = contexts.tokens_of(index)
        asked = min(question, max(room // 2, room - (end - first)))
        answer = answer_tokens(row, contexts.spans[first:end])
        for begin, stop in token_windows(end - first, room - asked, self.options.stride):
            label: tuple[int, int] | None = NOT_HERE
            if "answers" not in row:
                label = None
            elif answer is not None and begin <= answer[0] and answer[1] < stop:
                label = (answer[0] - begin, answer[1] - begin)
            yield index, asked, first + begin, stop - begin, label

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """The best span over a question's windows, or "" where no answer is likelier.

        `state["null_threshold"]` wins over the option of that name.
        """
        chosen = self.options.null_threshold
        threshold = state.get("null_threshold", chosen if isinstance(chosen, int | float) else 0.0)
        windows: list[list[tuple[Feature, Mapping[str, Array]]]] = [[] for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            windows[feature.row].append((feature, output))
        return [
            answer_line(
                row["context"],
                windows[index],
                n_best=self.options.n_best,
                longest=self.options.max_answer_len,
                threshold=threshold if self.no_answer else None,
            )
            for index, row in enumerate(rows)
        ]

    @property
    def tunes(self) -> bool:
        """True for `null_threshold: tuned`."""
        return self.options.null_threshold == "tuned"

    def tune(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> dict[str, float]:
        """`null_threshold` of best F1, if the option asks for it."""
        if not self.tunes:
            return {}
        self.require_gold(rows)
        return {"null_threshold": self._best_threshold(rows, predictions)[0]}

    def _best_threshold(
        self, rows: Sequence[Row], predictions: Sequence[Prediction]
    ) -> tuple[float, float]:
        golds = [self.gold(row) for row in rows]
        texts = [next((b["text"] for b in p["nbest"] if b["text"]), "") for p in predictions]
        return best_threshold(
            [line["null_score"] for line in predictions],
            [self.compare(text, gold)[1] for text, gold in zip(texts, golds, strict=True)],
            [self.compare("", gold)[1] for gold in golds],
        )

    def gold(self, row: Row) -> Any:
        """The accepted answers (empty: unanswerable), None if unlabelled."""
        answers = row.get("answers")
        return None if answers is None else [answer["text"] for answer in answers]

    def labelled(self, line: Mapping[str, Any]) -> Row:
        """With the texts of the accepted answers; see Task.labelled."""
        return {**line["row"], "answers": [{"text": text} for text in line["gold"]]}

    def describe_gold(self, rows: Sequence[Row]) -> str:
        """How many questions have an answer; see Task.describe_gold."""
        answered = sum(bool(self.gold(row)) for row in rows)
        return f"{answered} of {len(rows)} questions answerable ({answered / len(rows):.0%})"

    def only_answer(self, rows: Sequence[Row]) -> str | None:
        """None, where no question has any; see Task.only_answer."""
        return None if any(map(self.gold, rows)) else "no answer"

    def _detail(
        self, rows: Sequence[Row], predictions: Sequence[Prediction], found: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Scores of the questions with and without an answer, and the best threshold."""
        detail = {name: found[name] for name in ("has_answer", "no_answer") if found[name]["rows"]}
        if self.no_answer and all("null_score" in line for line in predictions):
            threshold, best = self._best_threshold(rows, predictions)
            detail["best_threshold"] = {"f1": best, "null_threshold": threshold}
        return detail

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """Answer nothing, where that can be right; else None."""
        if not self.no_answer:
            return None
        return [{"answer": "", "start": None, "probability": 1.0, "nbest": []} for _ in rows]


FORMATS = ("squad", ".jsonl", ".parquet")
MEANING = {
    "squad": "F1 over words, as SQuAD",
    "char": "F1 over characters, as CMRC 2018",
}


class UserQuestionAnsweringOptions(QuestionAnsweringOptions):
    """Open keys of `task: text/qa`."""

    metric: Literal["auto", "squad", "char"] = Field(
        "auto",
        description="squad: F1 over words; char: over characters, as CMRC 2018; auto: char where "
        "train's answers are in a script without spaces",
    )
    no_answer: Flag | None = Field(
        None, description="whether questions may have no answer; default: whether train's may"
    )


class UserQuestionAnswering(QuestionAnswering):
    """The user's own questions; whether some have no answer is found in train."""

    options_model: ClassVar[type[Section]] = UserQuestionAnsweringOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        own = cast(UserQuestionAnsweringOptions, options)
        # Not known yet means that it may be: then nothing is refused before train was read.
        may = own.no_answer is not False
        super().__init__(name, definition.model_copy(update={"no_answer": may}), options)
        self.options: UserQuestionAnsweringOptions = own
        self.compare = cmrc.best_over if own.metric == "char" else squad.best_over

    def settle(self, source: DataSource) -> Task:
        """With the metric that suits train's answers, and whether it lacks some; see Task.settle.

        Raises:
            ConfigError: a threshold for no answer where every question has one.
        """
        metric, no_answer = self.options.metric, self.options.no_answer
        if metric != "auto" and no_answer is not None:
            return self
        make = lambda line: self.gold(self._labelled(line))  # noqa: E731
        golds = list(from_train(self, source, FORMATS, make))
        script = "char" if cmrc.is_unspaced(text for gold in golds for text in gold) else "squad"
        return self.with_options(
            metric=script if metric == "auto" else metric,
            no_answer=not all(golds) if no_answer is None else no_answer,
        )

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read SQuAD json, jsonl or parquet files; see Task.read."""
        make = self._labelled if split in LABELLED else self._row
        return read_split(self, source, split, limit, FORMATS, make)

    def _labelled(self, line: RawRow) -> Row:
        row = self._row(line)
        if "answers" not in row:
            hint = 'write "answers": [{"text": "...", "answer_start": CHARACTER}]'
            raise DataError.at(question_place(line), "the question has no answers", hint)
        return row

    def _row(self, line: RawRow) -> Row:
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

    def _detail(
        self, rows: Sequence[Row], predictions: Sequence[Prediction], found: Mapping[str, Any]
    ) -> dict[str, Any]:
        meaning = MEANING["char" if self.options.metric == "char" else "squad"]
        return {**super()._detail(rows, predictions, found), "metric": meaning}
