"""Tagging of words: named entities in BIO tags, as in CoNLL-2003."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from ptv2_cli.config.schema import Section
from ptv2_cli.errors import DataError
from ptv2_cli.tasks.base import (
    IGNORE,
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
from ptv2_cli.tasks.bio import entities, is_iob1, strict_entities, to_bio
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.encoder import Encoder
from ptv2_cli.tasks.formats import Line
from ptv2_cli.tasks.frame import Built, Frame
from ptv2_cli.tasks.readers import check_words, read_split
from ptv2_cli.tasks.script import joined
from ptv2_cli.tasks.statistics import precision_recall_f1, resampled_errors
from ptv2_cli.tasks.tally import counted
from ptv2_cli.tasks.windows import readers, word_windows


class WindowOptions(Section):
    """Open keys of `task:` for all that tags words."""

    stride: int = Field(
        32,
        ge=0,
        description="tokens that neighbouring windows of a long sentence share, at most half",
    )


class TaggingOptions(WindowOptions):
    """Open keys of `task:` for tagging."""

    scheme: Literal["auto", "bio", "iob1"] = Field(
        "auto", description="how the files use B- and I-; auto looks and converts IOB1 to BIO"
    )


class Tagging(Task):
    """Rows `{tokens: [...], tags: [...]}`; tags are absent if unlabelled."""

    kind: ClassVar[Kind] = "token"
    options_model: ClassVar[type[Section]] = TaggingOptions
    readings: ClassVar[Mapping[str, Callable[[Sequence[str]], Sequence[Any]]]] = {
        "": entities,
        "_strict": strict_entities,
    }
    """What is counted in a sequence of tags, by the ending of the metrics' names."""
    spans: ClassVar[str] = "entities"
    """What the tags mark, for people."""

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.options: WindowOptions = cast(WindowOptions, options)
        self._place = {label: index for index, label in enumerate(self.labels)}

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read CoNLL columns, jsonl or parquet files; see Task.read.

        Whether the tags are IOB1 is decided over the whole split, whatever the limit.
        """
        found = read_split(self, source, split, None, self.formats, self._row)
        tags = [row["tags"] for row in found.rows if "tags" in row]
        scheme = cast(TaggingOptions, self.options).scheme
        if scheme == "iob1" or (scheme == "auto" and is_iob1(tags)):
            for row in found.rows:
                if "tags" in row:
                    row["tags"] = to_bio(row["tags"])
        return replace(found, rows=found.rows[:limit])

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of its files."""
        return (self.definition.layout, ".jsonl", ".parquet")

    def _row(self, line: Line) -> Row:
        tokens, tags = check_words(line, self.labels)
        row: Row = {"id": line.values["id"]} if "id" in line.values else {}
        return row | {"tokens": tokens} | ({} if tags is None else {"tags": tags})

    def new_row(self, line: Line) -> Row:
        """A sentence as `tokens`, or as `text` that white space parts into words."""
        text = line.values.get("text")
        if "tokens" in line.values or self.token_column in line.values:
            return super().new_row(line)
        if not isinstance(text, str):
            raise DataError.at(
                line.where,
                "no words: neither tokens nor text",
                f"columns here: {', '.join(line.values) or 'none'}",
            )
        return super().new_row(replace(line, values={**line.values, "tokens": text.split()}))

    def content(self, row: Row) -> tuple[Any, ...]:
        """The sentence; see Task.content."""
        return (" ".join(row["tokens"]),)

    def texts_by_column(self, row: Row) -> dict[str, str]:
        """The sentence; see Task.texts_by_column."""
        return {"tokens": " ".join(row["tokens"])}

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> list[Feature]:
        """Windows of whole words; each word is labelled and read in exactly one of them.

        A word's first sub-word carries its label; a word longer than a window keeps its first
        pieces. See Task.encode.
        """
        frame = self._frame(encoder)
        room = encoder.max_len - frame.overhead
        words = encoder.tokenize_words([row["tokens"] for row in rows])
        beside = self._beside(rows, encoder, room // 2)
        return [
            feature
            for index, row in enumerate(rows)
            for feature in self._windows(index, row, words[index], beside[index], frame, room)
        ]

    def _frame(self, encoder: Encoder) -> Frame:
        """What surrounds a window."""
        return encoder.frame(self.columns)

    def _beside(self, rows: Sequence[Row], encoder: Encoder, most: int) -> list[list[int]]:
        """At most `most` tokens that stand in every window of a row beside its words."""
        return [[] for _ in rows]

    def _build(self, frame: Frame, text: list[int], beside: list[int]) -> Built:
        """A window's input."""
        return frame.build({self.columns[0]: text})

    def _windows(
        self,
        index: int,
        row: Row,
        words: list[list[int]],
        beside: list[int],
        frame: Frame,
        room: int,
    ) -> list[Feature]:
        room -= len(beside)
        truncated = any(len(word) > room for word in words)
        words = [word[:room] for word in words]
        lengths = [len(word) for word in words]
        windows = word_windows(lengths, room, self.options.stride)
        reader = readers(lengths, windows)
        features = []
        for number, (first, last) in enumerate(windows):
            text = [piece for word in words[first:last] for piece in word]
            built = self._build(frame, text, beside)
            at = built.starts[self.columns[0]]
            read: list[int | None] = [None] * len(built.input_ids)
            for word in range(first, last):
                if reader[word] == number:
                    read[at] = word
                at += lengths[word]
            features.append(
                Feature(
                    row=index,
                    input_ids=built.input_ids,
                    token_type_ids=built.token_type_ids,
                    label=self._label(row, read),
                    slots=built.slots,
                    mask_at=built.mask_at,
                    words=read,
                    truncated=truncated,
                )
            )
        return features

    def _label(self, row: Row, read: list[int | None]) -> list[int] | None:
        if "tags" not in row:
            return None
        tags = row["tags"]
        # A role that train lacks is no class: it is learnt by nobody, and counts as missed.
        return [IGNORE if word is None else self._place.get(tags[word], IGNORE) for word in read]

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """A tag per word and the entities; an entity's probability is the product of its tags'."""
        tags = [["O"] * len(row["tokens"]) for row in rows]
        sure = [[1.0] * len(row["tokens"]) for row in rows]
        for feature, output in zip(features, outputs, strict=True):
            found = output["probabilities"]
            best, most = found.argmax(axis=-1).tolist(), found.max(axis=-1).tolist()
            for at, word in enumerate(feature.words or ()):
                if word is not None:
                    tags[feature.row][word] = self.labels[best[at]]
                    sure[feature.row][word] = most[at]
        return [
            self._line(row["tokens"], tags[index], sure[index]) for index, row in enumerate(rows)
        ]

    def _line(self, tokens: list[str], tags: list[str], sure: list[float]) -> Prediction:
        found = [
            {
                "type": entity.type,
                "start": entity.start,
                "end": entity.end,
                "text": joined(tokens[entity.start : entity.end]),
                "probability": float(np.prod(sure[entity.start : entity.end])),
            }
            for entity in entities(tags)
        ]
        return {"tags": tags, "entities": found}

    def gold(self, row: Row) -> Any:
        """The tags, None if unlabelled."""
        return row.get("tags")

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """How often each type of entity stands; see Task.tally."""
        read = self.readings[""]
        return Counter(found[0] for row in rows for found in read(row.get("tags", ())))

    def describe_gold(self, rows: Sequence[Row]) -> str:
        """Types of entities and words; see Task.describe_gold."""
        found = self.tally(rows)
        words = sum(len(row["tokens"]) for row in rows)
        types = f": {counted(found)}" if found else ""
        return f"{found.total()} {self.spans} in {words} words{types}"

    def only_answer(self, rows: Sequence[Row]) -> str | None:
        """The tag O, where no word has another; see Task.only_answer."""
        tagged = any(tag != "O" for row in rows for tag in row.get("tags", ()))
        return None if tagged else "the tag O at every word"

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, 3 * readings]: correct, predicted and gold entities, in each reading of the tags."""
        found = np.zeros((len(rows), len(self.readings), 3))
        for index, (row, line) in enumerate(zip(rows, predictions, strict=True)):
            for at, read in enumerate(self.readings.values()):
                guess, truth = set(read(line["tags"])), set(read(row["tags"]))
                found[index, at] = len(guess & truth), len(guess), len(truth)
        return found.reshape(len(rows), -1)

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """precision, recall and f1 in each reading from summed counts [..., 3 * readings]."""
        scores: dict[str, Statistics] = {}
        for at, suffix in enumerate(self.readings):
            parts = (totals[..., 3 * at + shift].astype(float) for shift in range(3))
            for name, value in zip(
                ("precision", "recall", "f1"), precision_recall_f1(*parts), strict=True
            ):
                scores[name + suffix] = value
        return {name: scores[name] for name in self.metrics}

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """Entity scores by seqeval; per type under detail; see Task.score."""
        from ptv2_cli.tasks.metrics import Entities

        self.require_gold(rows)
        found = Entities().compute(
            predictions=[line["tags"] for line in predictions],
            references=[row["tags"] for row in rows],
        )
        statistics = self.row_statistics(rows, predictions)
        errors = resampled_errors(statistics, self.from_statistics)
        return Scores(
            metrics={name: float(found[name]) for name in self.metrics},
            detail={"types": found["types"], "entities": int(statistics[:, 2].sum())},
            standard_error=errors[self.metric],
            standard_errors=errors,
        )

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """All O: no entity anywhere."""
        return [{"tags": ["O"] * len(row["tokens"]), "entities": []} for row in rows]
