"""The user's own texts, and a text that the language model writes for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from ptv2_cli.config.fields import Text, impossible
from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.readers import read_split
from ptv2_cli.data.row_checks import check_text
from ptv2_cli.data.rows import DataSource, Row, Split
from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Feature
from ptv2_cli.inputs.ragged import Ragged
from ptv2_cli.kinds import IGNORE, Kind
from ptv2_cli.scoring.resampling import resampled_errors
from ptv2_cli.scoring.scores import Array, Prediction, Scores, Statistics
from ptv2_cli.scoring.written import from_sums, text_sums
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.texts import FORMATS, encode_texts
from ptv2_cli.tasks.user_data import LABELLED, Names, require_label

SHOWN = 60
"""Characters of a text that a message shows."""


class GenerationOptions(Section):
    """Open keys of `task: text/generation`."""

    input: Names = Field(("input",), description="columns that the model reads, in order")
    output: Text = Field(
        "output",
        description="column of the text to write, or of a list of texts that are all right",
        validate_default=True,
    )
    template: Text | None = Field(
        None,
        description="how the columns become input: '{title} {text} Summary:'; default: one after "
        "another",
    )

    @field_validator("output")
    @classmethod
    def _no_input(cls, value: str, info: ValidationInfo) -> str:
        if value in info.data.get("input", ()):
            what = f"the column {value!r} is a column of task.input too"
            raise impossible(what, "write output: the column of the text to write")
        return value


class Generation(Task):
    """Rows `{input columns..., output: TEXT or [TEXT, ...]}`; without an output: unlabelled.

    Of several right texts the first is trained on, and what is written is compared with all.
    """

    kind: ClassVar[Kind] = "generation"
    unweighted = "its answers are texts, no classes"
    options_model: ClassVar[type[Section]] = GenerationOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        own = cast(GenerationOptions, options)
        self.columns = own.input
        self.output = self.gold_key = own.output
        self.template = own.template

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """The column that `output:` names."""
        return (self.output,)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read a table; every row of train and validation has its output; see Task.read."""

        def make(line: RawRow) -> Row:
            if split in LABELLED:
                require_label(line, self.output)
            return self._row(line)

        return read_split(self, source, split, limit, FORMATS, make)

    def _row(self, line: RawRow) -> Row:
        texts = [check_text(line, column).strip() for column in self.columns]
        if not any(texts):
            what = f"column {self.columns[0]!r} is empty"
            raise DataError.at(line.where, what, "write its text, or delete the row")
        row = dict(line.values)
        value = row.pop(self.output, None)
        if value is None or value == "" or value == []:
            return row
        right = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) and text.strip() for text in right):
            what = f"column {self.output!r} holds {str(value)[:SHOWN]!r}"
            hint = "it must be a text, or a list of texts that are all right"
            raise DataError.at(line.where, what, hint)
        return {**row, self.output: value}

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> FeatureTable:
        """One feature per row: a causal model's answer follows its text; see Task.encode.

        Raises:
            ConfigError: also if an answer has more tokens than `generate.max_new_tokens`.
        """
        asked = encoder.leaving_room() if encoder.causal else encoder
        table = encode_texts(self.columns, rows, asked)
        answers = [self._answer(row, encoder) for row in rows]
        if not encoder.causal:
            return table.labelled(answers)
        return _continued(table, answers)

    def _answer(self, row: Row, encoder: Encoder) -> list[int] | None:
        """The tokens of the text to write, and the end-of-text token."""
        texts = self.references(row)
        if not texts:
            return None
        ids = [*encoder.tokenize(texts[:1], spaced=encoder.causal)[0], encoder.end_id]
        if len(ids) > encoder.answer_room:
            shown = texts[0] if len(texts[0]) <= SHOWN else f"{texts[0][:SHOWN]}..."
            raise ConfigError.at(
                "generate.max_new_tokens",
                f"the text {shown!r} of column {self.output!r} has {len(ids)} tokens with its end, "
                f"and an answer has room for {encoder.answer_room}",
                f"write generate: {{max_new_tokens: {len(ids)}}}, or more",
            )
        return ids

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
            [-line.get("gold_log_probability", 0.0) for line in predictions],
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
