"""A gap in a query that one of a passage's entities fills: ReCoRD (arXiv 1810.12885).

Every entity is an input of its own: the passage, and the query with the entity in the gap. The
likeliest of them is the answer. It is compared with the accepted ones as the official script
does: exact match and F1 of the words, normalised as SQuAD's, against the nearest of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.readers import read_split
from ptv2_cli.data.row_checks import check_text, index_of, inner, numbered, span_of
from ptv2_cli.data.rows import DataSource, Row, Split
from ptv2_cli.errors import DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import Kind
from ptv2_cli.scoring.scores import Array, Prediction
from ptv2_cli.scoring.squad import best_over
from ptv2_cli.tasks.answers import AnswerTask
from ptv2_cli.tasks.texts import encode_texts

GAP = "@placeholder"


class ClozeOptions(Section):
    """A cloze has no option of its own."""


class Cloze(AnswerTask):
    """Rows `{passage, query, entities: [TEXT], answers: [TEXT], idx}`, a row per query.

    The head has two classes, whether an entity is right being the second. Entities and answers
    are sorted texts without repetition, as the hub's files have them; no answers: unlabelled.
    """

    kind: ClassVar[Kind] = "sequence"
    unweighted = "its answers are entities, no classes"
    options_model: ClassVar[type[Section]] = ClozeOptions
    piece: ClassVar[str] = "entity"
    origin: ClassVar[str | None] = "passage"

    @property
    def classed(self) -> bool:
        """False: the answer is an entity of the passage."""
        return False

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read jsonl or parquet files; see Task.read."""
        return read_split(self, source, split, limit, (".jsonl", ".parquet"), self._row)

    def expand(self, line: RawRow) -> Iterator[RawRow]:
        """A row for every query on the line's passage; see Task.expand."""
        if not isinstance(line.values.get("passage"), Mapping):
            yield line
            return
        passage = line.values["passage"]
        text = inner(line, passage, "text", "text", "the passage")
        entities = [
            _slice(replace(line, part=f"entity {place + 1}"), entity, text)
            for place, entity in numbered(line, passage, "entities", "the passage", "entity")
        ]
        number = index_of(line, line.values, (line.number or 1) - 1)
        rest = {k: v for k, v in line.values.items() if k not in {"passage", "qas", "idx"}}
        for place, query in numbered(line, line.values, "qas", "the row", "query"):
            one = replace(line, part=f"query {place + 1}")
            values = {
                **rest,
                "passage": text,
                "query": inner(one, query, "query", "text", "it"),
                "entities": entities,
                "idx": {"passage": number, "query": index_of(one, query, place)},
            }
            if "answers" in query:
                answers = inner(one, query, "answers", "list", "it")
                values["answers"] = [_answer(one, answer, text) for answer in answers]
            yield replace(one, values=values)

    def _row(self, line: RawRow) -> Row:
        check_text(line, "passage")
        if GAP not in check_text(line, "query"):
            what = f"query {line.values['query']!r} has no {GAP}"
            raise DataError.at(line.where, what, f"{GAP} stands where an entity goes")
        row = {**line.values, "entities": _texts(line, "entities")}
        if not row["entities"]:
            raise DataError.at(line.where, "no entities", "a query needs some to choose from")
        answers = _texts(line, "answers") if line.values.get("answers") else []
        row.pop("answers", None)
        return {**row, "answers": answers} if answers else row

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> FeatureTable:
        """One feature per entity, in the order of the row's; see Task.encode."""
        pairs = [(at, row, entity) for at, row in enumerate(rows) for entity in row["entities"]]
        texts = [
            {"passage": row["passage"], "query": row["query"].replace(GAP, entity)}
            for _, row, entity in pairs
        ]
        table = encode_texts(self.columns, texts, encoder)
        labels = [
            int(entity in row["answers"]) if "answers" in row else None for _, row, entity in pairs
        ]
        return table.of_rows([at for at, _, _ in pairs]).labelled(labels)

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """The entity that is likeliest to be right (the first of equals); `nbest` has them all."""
        chances_by_row: list[list[float]] = [[] for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            chances_by_row[feature.row].append(float(output["probabilities"][1]))
        return [
            _line(dict(zip(row["entities"], chances, strict=True)))
            for row, chances in zip(rows, chances_by_row, strict=True)
        ]

    def describe_gold(self, rows: Sequence[Row]) -> str:
        """Answers and entities of a query; see Task.describe_gold."""
        answers = sum(len(row.get("answers", ())) for row in rows) / len(rows)
        entities = sum(len(row["entities"]) for row in rows) / len(rows)
        return f"{answers:.1f} of {entities:.1f} entities are right on average"

    def _detail(
        self, rows: Sequence[Row], predictions: Sequence[Prediction], found: Mapping[str, Any]
    ) -> dict[str, Any]:
        return _random(rows)

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """The entity that the passage names most often (the first of equals)."""
        return [_line(_named(row)) for row in rows]


def _slice(line: RawRow, values: Any, text: str) -> str:
    start, end = span_of(line, values, len(text), "an entity")
    return text[start : end + 1]


def _answer(line: RawRow, values: Any, text: str) -> str:
    text_of_answer: str = inner(line, values, "text", "text", "an answer")
    if "start" in values or "end" in values:
        span_of(line, values, len(text), "an answer")
    return text_of_answer


def _texts(line: RawRow, column: str) -> list[str]:
    """The different texts of a list, sorted, so that no order of the file's tells anything."""
    texts = inner(line, line.values, column, "list", "the row")
    bad = next((item for item in texts if not isinstance(item, str) or not item.strip()), None)
    if bad is not None:
        raise DataError.at(line.where, f"{column} hold {bad!r}", "they must be texts in quotes")
    return sorted(set(texts))


def _line(chances: Mapping[str, float]) -> Prediction:
    ranked = sorted(chances.items(), key=lambda item: -item[1])
    return {
        "answer": ranked[0][0],
        "probability": ranked[0][1],
        "nbest": [{"text": text, "probability": chance} for text, chance in ranked],
    }


def _named(row: Row) -> dict[str, float]:
    """Each entity's share of the times that the passage names any."""
    counts = {entity: row["passage"].count(entity) for entity in row["entities"]}
    total = sum(counts.values()) or 1
    return {entity: count / total for entity, count in counts.items()}


def _random(rows: Sequence[Row]) -> dict[str, float]:
    """Mean scores of an entity drawn at random."""
    scores = np.array(
        [
            np.mean([best_over(entity, row["answers"]) for entity in row["entities"]], axis=0)
            for row in rows
        ]
    )
    exact, f1 = scores.mean(axis=0)
    return {"random_f1": float(f1), "random_exact_match": float(exact)}
