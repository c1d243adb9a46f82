"""The user's own texts, and a text that the language model writes for each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np

from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow, unknown_column
from ptv2_cli.data.readers import read_split
from ptv2_cli.data.row_checks import check_label, check_text
from ptv2_cli.data.rows import DataSource, Row, SourceRow, Split
from ptv2_cli.errors import DataError, UnfitRow
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Feature
from ptv2_cli.inputs.ragged import Ragged
from ptv2_cli.inputs.turns import encode_turn
from ptv2_cli.kinds import IGNORE, Kind
from ptv2_cli.scoring.resampling import resampled_errors
from ptv2_cli.scoring.scores import Array, Prediction, Scores, Statistics
from ptv2_cli.scoring.written import from_sums, text_sums
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.generation_options import GenerationOptions
from ptv2_cli.tasks.messages import check_messages, parsed, plain_text, split_answer
from ptv2_cli.tasks.texts import FORMATS, encode_texts
from ptv2_cli.tasks.user_data import LABELLED, as_label

SHOWN = 60
"""Characters of a text that a message shows."""


class Generation(Task):
    """Rows `{input columns..., output: TEXT or [TEXT, ...]}`; without an output: unlabelled.

    Of several right texts the first is trained on, and what is written is compared with all. With
    `words` the output is a label, and a row has the label's text in its place.
    With `messages` a row has its conversation without the answer, and this under `gold_key`.
    """

    kind: ClassVar[Kind] = "generation"
    unweighted = "its answers are texts, no classes"
    options_model: ClassVar[type[Section]] = GenerationOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        own = cast(GenerationOptions, options)
        self.messages = own.messages
        if own.messages is not None:
            self.columns = (own.messages,)
            self.gold_key = f"{own.messages}: answer"
        else:
            assert own.input is not None
            assert own.output is not None
            self.columns = own.input
            self.gold_key = own.output
        self.template = own.template
        self.words = own.words

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """The column that `output:` names; messages hold question and answer."""
        return () if self.messages is not None else (self.gold_key,)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read a table; every row of train and validation has its output; see Task.read."""
        tables = Counter[bool]()

        def make(line: RawRow) -> Row:
            row = self._row(line)
            if split in LABELLED and self.gold(row) is None:
                raise self._lacking(line)
            tables[line.header is not None and _lists_texts(row.get(self.gold_key))] += 1
            return row

        found = read_split(self, source, split, limit, FORMATS, make)
        if not tables[True] or tables[False]:
            return found
        note = (
            f"every {self.gold_key!r} of {split} looks like a list: a cell of a table is one text "
            "with all its brackets; several right texts are a list in jsonl or parquet"
        )
        return replace(found, notes=(*found.notes, note))

    def _lacking(self, line: RawRow) -> DataError:
        """The error of a row of train or validation without the text to write."""
        if self.messages is not None:
            what = f"the last message of column {self.messages!r} is not the assistant's: no answer"
            return DataError.at(line.where, what, "add the answer, or delete the row")
        if self.gold_key not in line.values:
            return unknown_column(line.at(line.header), self.gold_key, line.values)
        what = f"column {self.gold_key!r} is empty: no text to write"
        return DataError.at(line.where, what, "write the text, or delete the row")

    def _row(self, line: RawRow) -> Row:
        if self.messages is not None:
            return self._conversation(line, self.messages)
        texts = [check_text(line, column).strip() for column in self.columns]
        if not any(texts):
            what = f"column {self.columns[0]!r} is empty"
            raise DataError.at(line.where, what, "write its text, or delete the row")
        row = dict(line.values)
        value = row.pop(self.gold_key, None)
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            return row
        if self.words is not None:
            label = check_label(line, as_label(value), list(self.words))
            return {**row, self.gold_key: self.words[label]}
        right = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) and text.strip() for text in right):
            what = f"column {self.gold_key!r} holds {str(value)[:SHOWN]!r}"
            hint = "it must be a text in quotes, or a list of texts that are all right"
            if len(right) == 1 and isinstance(right[0], bool | int):
                hint += "; task.words gives labels their texts"
            raise DataError.at(line.where, what, hint)
        return {**row, self.gold_key: value}

    def _conversation(self, line: RawRow, column: str) -> Row:
        asked, answer = split_answer(check_messages(line, column))
        if not asked or asked[-1]["role"] in {"system", "developer", "assistant"}:
            before = f"a message of role {asked[-1]['role']}" if asked else "nothing"
            what = f"before the answer in column {column!r} comes {before}"
            hint = "an answer follows a message of the user"
            raise DataError.at(line.where, what, hint)
        row = {**line.values, column: asked}
        row.pop(self.gold_key, None)
        return {**row, self.gold_key: answer} if answer and answer.strip() else row

    def new_row(self, line: RawRow) -> Row:
        """A row to predict; an assistant's last message is what is to be written anew."""
        if self.messages is None:
            return super().new_row(line)
        row = self._row(line)
        row.pop(self.gold_key, None)
        return SourceRow(row, line.values)

    def columns_of(self, texts: tuple[str, ...]) -> dict[str, Any]:
        """See Task.columns_of; a text alone is the user's message."""
        if self.messages is None:
            return super().columns_of(texts)
        return {self.messages: [{"role": "user", "content": texts[0]}]}

    def labelled(self, line: Mapping[str, Any]) -> Row:
        """See Task.labelled."""
        row = super().labelled(line)
        if self.messages is None:
            return row
        return {**row, self.messages: split_answer(parsed(row[self.messages]))[0]}

    def texts_by_column(self, row: Row) -> dict[str, str]:
        """See Task.texts_by_column; of a conversation its messages' texts."""
        if self.messages is None:
            return super().texts_by_column(row)
        return {self.messages: plain_text(row[self.messages])}

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> FeatureTable:
        """One feature per row: a causal model's answer follows its text; see Task.encode.

        Raises:
            UnfitRow: an answer has more tokens than `generate.max_new_tokens`, or the chat
                template refuses a row's messages.
        """
        asked = encoder.leaving_room() if encoder.causal else encoder
        if self.messages is not None:
            table, answers = self._turns(rows, asked, self.messages)
        else:
            table = encode_texts(self.columns, rows, asked)
            answers = self._answers(rows, encoder)
        self._check_room(rows, answers, encoder.answer_room)
        if not encoder.causal:
            return table.labelled(answers)
        return _continued(table, answers)

    def _turns(
        self, rows: Sequence[Row], asked: Encoder, column: str
    ) -> tuple[FeatureTable, list[list[int] | None]]:
        turns = [encode_turn(row, row[column], self.gold(row), asked) for row in rows]
        cut = np.array([turn.cut for turn in turns], np.bool_)
        table = FeatureTable(
            ids=Ragged.of([turn.ids for turn in turns]),
            rows=np.arange(len(rows), dtype=np.int32),
            truncated=cut if cut.any() else None,
        )
        return table, [turn.answer for turn in turns]

    def _answers(self, rows: Sequence[Row], encoder: Encoder) -> list[list[int] | None]:
        """The tokens of the text to write to each row; None: it is unlabelled."""
        texts = [right[0].strip() if right else None for right in map(self.references, rows)]
        tokens = iter(encoder.tokenize_answers([text for text in texts if text is not None]))
        return [None if text is None else next(tokens) for text in texts]

    def _check_room(
        self, rows: Sequence[Row], answers: Sequence[list[int] | None], room: int
    ) -> None:
        """Check that all answers fit.

        Raises:
            UnfitRow: of the longest one.
        """
        sizes = [0 if ids is None else len(ids) for ids in answers]
        longest = max(sizes, default=0)
        if longest <= room:
            return
        row, over = rows[sizes.index(longest)], sum(size > room for size in sizes)
        text = self.references(row)[0]
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
        others = f"; {over} rows have such answers" if over > 1 else ""
        raise UnfitRow.of(
            row,
            "generate.max_new_tokens",
            f"the text {shown!r} to write has {longest} tokens with its end, and an answer has "
            f"room for {room}{others}",
            f"write generate: {{max_new_tokens: {longest}}}, or more; or shorten the text",
        )

    def references(self, row: Row) -> list[str]:
        """The texts that are right answers to a row; empty if it is unlabelled."""
        gold = self.gold(row)
        if gold is None:
            return []
        return [gold] if isinstance(gold, str) else list(gold)

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """The text written for each row and its log probability, and that of the right one."""
        predictions: list[Prediction] = [{} for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            line: dict[str, Any] = {"text": str(output["text"])}
            if "log_probability" in output:
                line["log_probability"] = float(output["log_probability"])
            if "nll" in output:
                line["gold_log_probability"] = -float(output["nll"])
                line["gold_tokens"] = int(output["tokens"])
            predictions[feature.row] = line
        return predictions

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """Empty: texts are no classes."""
        return Counter()

    def describe_gold(self, rows: Sequence[Row]) -> str:
        """How long the texts to write are."""
        lengths = [len(texts[0].split()) for texts in map(self.references, rows) if texts]
        if not lengths:
            return ""
        return f"outputs of {np.mean(lengths):.0f} words on average, {max(lengths)} at most"

    def only_answer(self, rows: Sequence[Row]) -> str | None:
        """The text, where there is one alone; see Task.only_answer."""
        texts = {texts[0] for texts in map(self.references, rows) if texts}
        return f"the text {texts.pop()[:SHOWN]!r}" if len(texts) == 1 else None

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, k]: see `scoring.written.text_sums`."""
        return text_sums(
            [line["text"] for line in predictions],
            [self.references(row) for row in rows],
            [_nats(line) for line in predictions],
            [line.get("gold_tokens", 0) for line in predictions],
        )

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """The metrics from sums [..., k]."""
        values = from_sums(totals)
        return {name: values[name] for name in self.metrics}

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """ROUGE, BLEU, chrF, F1 and exact match; under detail the perplexity of the right texts."""
        self.require_gold(rows)
        statistics = self.row_statistics(rows, predictions)
        values = from_sums(statistics.sum(axis=0))
        with np.errstate(over="ignore"):  # a run that diverges has perplexities of any size
            errors = resampled_errors(statistics, from_sums)
        kept = {name: errors[name] for name in self.metrics}
        detail: dict[str, Any] = {"standard_errors": kept}
        if values["tokens"]:
            detail |= {
                "perplexity": float(values["perplexity"]),
                "perplexity_error": errors["perplexity"],
            }
        return self.scores(values, kept, detail)

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """The most frequent output of train, for every row."""
        counts = Counter(texts[0] for texts in map(self.references, train) if texts)
        if not counts:
            return None
        text = counts.most_common(1)[0][0]
        return [{"text": text} for _ in rows]


def _lists_texts(gold: Any) -> bool:
    """Whether a text is the JSON of a list of texts."""
    if not isinstance(gold, str) or not gold.startswith("["):
        return False
    value = parsed(gold)
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _continued(table: FeatureTable, answers: Sequence[list[int] | None]) -> FeatureTable:
    """Inputs followed by their answers; each position's label is the token that follows it.

    The last token of an answer is no input: nothing is read after it.
    """
    added = [ids[:-1] if ids else [] for ids in answers]
    lengths = np.diff(table.ids.starts)
    ids = [[*table.ids[at].tolist(), *new] for at, new in enumerate(added)]
    labels = [
        None if answer is None else [IGNORE] * (int(length) - 1) + answer
        for answer, length in zip(answers, lengths, strict=True)
    ]
    return table.continued(Ragged.of(ids)).labelled(labels)


def _nats(prediction: Prediction) -> float:
    """Minus the log probability of the right text; files have null for what is no number."""
    value = prediction.get("gold_log_probability", 0.0)
    return math.nan if value is None else -value
