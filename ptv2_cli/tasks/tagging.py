"""Tagging of words: named entities in BIO tags, as in CoNLL-2003."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, field_validator

from ptv2_cli.config.fields import impossible
from ptv2_cli.config.section import Section
from ptv2_cli.data.conll import ColumnKey
from ptv2_cli.data.formats import RawRow, unknown_column
from ptv2_cli.data.readers import read_split
from ptv2_cli.data.row_checks import check_words
from ptv2_cli.data.row_store import RowStore, column_values, once
from ptv2_cli.data.rows import DataSource, Row, Split, counted
from ptv2_cli.errors import DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Feature
from ptv2_cli.inputs.labels import Labels
from ptv2_cli.inputs.layout import Built, Layout
from ptv2_cli.inputs.ragged import Ragged, bounds
from ptv2_cli.inputs.windows import cut_windows
from ptv2_cli.kinds import IGNORE, Kind
from ptv2_cli.scoring.cmrc import join_words
from ptv2_cli.scoring.entities import (
    bioes_to_bio,
    entities,
    is_iob1,
    scheme_of,
    strict_entities,
    tag_pairs,
    to_bio,
)
from ptv2_cli.scoring.resampling import precision_recall_f1, resampled_errors
from ptv2_cli.scoring.scores import Array, Prediction, Scores, Statistics
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.user_data import LABELLED, Names, check_known, check_tags, from_train


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


def _in_bio(row: Row) -> Row:
    """A row whose tags are IOB1, with tags in BIO."""
    if "tags" in row:
        row["tags"] = to_bio(row["tags"])
    return row


class Tagging(Task):
    """Rows `{tokens: [...], tags: [...]}`; tags are absent if unlabelled."""

    kind: ClassVar[Kind] = "token"
    gold_key: str = "tags"
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
        split_read = read_split(self, source, split, None, self.formats, self._row)
        rows = split_read.rows
        scheme = cast(TaggingOptions, self.options).scheme
        tags = (row["tags"] for row in rows if "tags" in row)
        if scheme == "iob1" or (scheme == "auto" and is_iob1(tags)):
            rows = RowStore(map(_in_bio, rows))
        return replace(split_read, rows=rows[:limit])

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of its files."""
        return (self.definition.layout, ".jsonl", ".parquet")

    def _row(self, line: RawRow) -> Row:
        tokens, tags = check_words(line, self.labels)
        row: Row = {"id": line.values["id"]} if "id" in line.values else {}
        return row | {"tokens": tokens} | ({} if tags is None else {"tags": tags})

    def new_row(self, line: RawRow) -> Row:
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

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> FeatureTable:
        """Windows of whole words; each word is labelled and read in exactly one of them.

        A word's first sub-word carries its label; a word longer than a window keeps its first
        pieces. See Task.encode.
        """
        layout = self._layout(encoder)
        room = encoder.max_len - layout.overhead
        sentences = [row["tokens"] for row in rows]
        counts = np.array([len(words) for words in sentences], np.int64)
        beside = self._beside(rows, encoder, room // 2)
        rooms = room - beside.lengths
        row_of_word = np.repeat(np.arange(len(rows)), counts)
        pieces = encoder.tokenize_words(list(chain.from_iterable(sentences)))
        kept = np.minimum(pieces.lengths, rooms[row_of_word])
        truncated = np.zeros(len(rows), np.bool_)
        truncated[row_of_word[kept < pieces.lengths]] = True
        pieces = pieces.first(kept)
        windows = cut_windows(pieces, counts, rooms, self.options.stride)
        begins = pieces.starts[windows.first]
        text = pieces.cut(begins, pieces.starts[windows.last] - begins)
        built = self._build(layout, text, beside.take(windows.rows))
        window, word = windows.read()
        position = built.starts[self.columns[0]] - begins
        at = position[window] + pieces.starts[word]
        words = np.full(len(built.ids.values), -1, np.int32)
        words[at] = word - bounds(counts)[row_of_word[word]]
        return FeatureTable(
            ids=built.ids,
            rows=windows.rows.astype(np.int32),
            types=built.types,
            labels=self._labels(rows, windows.rows, built.ids.starts, at, word),
            slots=built.slots,
            mask_at=built.mask_at,
            words=words,
            truncated=truncated[windows.rows] if truncated.any() else None,
        )

    def _layout(self, encoder: Encoder) -> Layout:
        """What surrounds a window."""
        return encoder.layout(self.columns)

    def _beside(self, rows: Sequence[Row], encoder: Encoder, most: int) -> Ragged:
        """At most `most` tokens that stand in every window of a row beside its words."""
        return Ragged.empty_lists(len(rows))

    def _build(self, layout: Layout, text: Ragged, beside: Ragged) -> Built:
        """The windows' inputs."""
        return layout.build({self.columns[0]: text})

    def _labels(
        self,
        rows: Sequence[Row],
        row_of_window: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        at: npt.NDArray[np.int64],
        word: npt.NDArray[np.int64],
    ) -> Labels | None:
        """The tags of the windows' tokens: at positions `at` those of the words `word`."""
        known = np.array(["tags" in row for row in rows], np.bool_)
        if not known.any():
            return None
        # A role that train lacks is no class: it is learnt by nobody, and counts as missed.
        blank = [IGNORE]
        tags = chain.from_iterable(
            [self._place.get(tag, IGNORE) for tag in row["tags"]]
            if "tags" in row
            else blank * len(row["tokens"])
            for row in rows
        )
        labels = np.full(int(starts[-1]), IGNORE, np.int32)
        labels[at] = np.fromiter(tags, np.int32)[word]
        return Labels(labels, starts, None if known.all() else known[row_of_window])

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
            probabilities = output["probabilities"]
            best, most = probabilities.argmax(axis=-1).tolist(), probabilities.max(axis=-1).tolist()
            for position, word in enumerate(feature.words or ()):
                if word is not None:
                    tags[feature.row][word] = self.labels[best[position]]
                    sure[feature.row][word] = most[position]
        return [
            self._line(row["tokens"], tags[index], sure[index]) for index, row in enumerate(rows)
        ]

    def _line(self, tokens: list[str], tags: list[str], sure: list[float]) -> Prediction:
        marked = [
            {
                "type": entity.type,
                "start": entity.start,
                "end": entity.end,
                "text": join_words(tokens[entity.start : entity.end]),
                "probability": float(np.prod(sure[entity.start : entity.end])),
            }
            for entity in entities(tags)
        ]
        return {"tags": tags, "entities": marked}

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """How often each type of entity stands; see Task.tally."""
        read = self.readings[""]
        tags = (tags or () for tags in column_values(rows, "tags"))
        count = lambda: Counter(entity[0] for one in tags for entity in read(one))  # noqa: E731
        return once(rows, ("entities", read), count).copy()

    def describe_gold(self, rows: Sequence[Row]) -> str:
        """Types of entities and words; see Task.describe_gold."""
        counts = self.tally(rows)
        words = sum(len(row["tokens"]) for row in rows)
        types = f": {counted(counts)}" if counts else ""
        return f"{counts.total()} {self.spans} in {words} words{types}"

    def only_answer(self, rows: Sequence[Row]) -> str | None:
        """The tag O, where no word has another; see Task.only_answer."""
        tagged = any(tag != "O" for row in rows for tag in row.get("tags", ()))
        return None if tagged else "the tag O at every word"

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, 3 * readings]: correct, predicted and gold entities, in each reading of the tags."""
        counts = np.zeros((len(rows), len(self.readings), 3))
        for index, (row, line) in enumerate(zip(rows, predictions, strict=True)):
            for reading, read in enumerate(self.readings.values()):
                guess, truth = set(read(line["tags"])), set(read(row["tags"]))
                counts[index, reading] = len(guess & truth), len(guess), len(truth)
        return counts.reshape(len(rows), -1)

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
        from ptv2_cli.scoring.evaluate_metrics import Entities

        self.require_gold(rows)
        found = Entities().compute(
            predictions=[line["tags"] for line in predictions],
            references=[row["tags"] for row in rows],
        )
        statistics = self.row_statistics(rows, predictions)
        errors = resampled_errors(statistics, self.from_statistics)
        detail = {"types": found["types"], "entities": int(statistics[:, 2].sum())}
        return self.scores(found, errors, detail)

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """All O: no entity anywhere."""
        return [{"tags": ["O"] * len(row["tokens"]), "entities": []} for row in rows]


FORMATS = ("conll", ".jsonl", ".parquet")


def _place(value: Any) -> Any:
    """A whole number is an index, whatever its source text; all else is a name."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if whole else getattr(value, "source", value)


ColumnPlace = Annotated[int | str, BeforeValidator(_place)]


class UserTaggingOptions(TaggingOptions):
    """Open keys of `task: text/tagging`."""

    scheme: Literal["auto", "bio", "iob1", "bioes"] = Field(  # type: ignore[assignment]
        "auto", description="how the files mark entities; auto looks at the train file"
    )
    token_column: ColumnPlace = Field(
        0, description="column of the words: an index from 0, or a name in the first line"
    )
    tag_column: ColumnPlace = Field(
        -1, description="column of the tags: an index (-1: the last), or a name in the first line"
    )
    labels: Names | None = Field(
        None, description="the tags in BIO, O first; default: those of the types in train"
    )

    @field_validator("labels")
    @classmethod
    def _are_bio(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = value is None or ("O" in value and all(t[:2] in {"O", "B-", "I-"} for t in value))
        if not known or (value is not None and len(set(value)) != len(value)):
            raise impossible("names O and different B- and I- tags", "write labels: [O, B-X, I-X]")
        return value


class UserTagging(Tagging):
    """Rows `{tokens: [...], tags: [...]}`, tags in BIO whatever the files have."""

    options_model: ClassVar[type[Section]] = UserTaggingOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        own = cast(UserTaggingOptions, options)
        labels = own.labels or ()
        super().__init__(name, definition.model_copy(update={"labels": labels}), options)
        self.options: UserTaggingOptions = own
        self.token_column = own.token_column
        self.types = tuple(dict.fromkeys(label[2:] for label in labels if label != "O"))

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """The tags, and the column that `tag_column:` names."""
        named = self.options.tag_column
        return ("tags", named) if isinstance(named, str) else ("tags",)

    def settle(self, source: DataSource) -> Task:
        """With the scheme and the tags of the train file; see Task.settle."""
        if self.options.labels is not None and self.options.scheme != "auto":
            return self
        make = lambda line: check_tags(line, self._words(line)[1])  # noqa: E731
        pairs = tag_pairs(from_train(self, source, FORMATS, make, self._columns))
        types = sorted({tag[2:] for _, tag in pairs if tag != "O"})
        if not types:
            where = ", ".join(map(str, source.files("train")))
            hint = "task.tag_column says which column holds the tags (-1: the last)"
            raise DataError.at(where, "every tag is O: no entity to learn", hint)
        # I-X is there even where every X of train is one word: elsewhere it may be longer.
        labels = ("O", *(f"{prefix}-{name}" for name in types for prefix in "BI"))
        scheme = self.options.scheme if self.options.scheme != "auto" else scheme_of(pairs)
        return self.with_options(scheme=scheme, labels=self.options.labels or labels)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read CoNLL columns, jsonl or parquet files; see Task.read."""
        make = self._tagged if split in LABELLED else self._row
        return read_split(self, source, split, limit, FORMATS, make, self._columns)

    def labelled(self, line: Mapping[str, Any]) -> Row:
        """With the words as `tokens`; see Task.labelled."""
        row, named = super().labelled(line), str(self.options.token_column)
        return {**row, "tokens": row[named]} if named in row else row

    def _tagged(self, line: RawRow) -> Row:
        row = self._row(line)
        if "tags" not in row:
            raise DataError.at(line.where, "the sentence has no tags", "tag it, or delete it")
        return row

    @property
    def _columns(self) -> tuple[ColumnKey, ColumnKey]:
        return self.options.token_column, self.options.tag_column

    def _row(self, line: RawRow) -> Row:
        row: Row = {"id": line.values["id"]} if "id" in line.values else {}
        tokens, raw = self._words(line)
        row["tokens"] = tokens
        if raw is not None:
            tags = self._in_bio(line, check_tags(line, raw))
            for index, tag in enumerate(tags):
                if tag != "O" and tag[2:] not in self.types:
                    number = line.numbers[index] if line.numbers else None
                    check_known(line.at(number), "entity type", tag[2:], self.types)
            row["tags"] = tags
        return row

    def _words(self, line: RawRow) -> tuple[list[str], list[str] | None]:
        """Words and tags as read; jsonl files may have them under the names of the columns.

        A row that has the named column of words has its tags in the named column too: another
        column `tags` is none of ours.
        """
        values = dict(line.values)
        words, marks = (
            named if isinstance(named, str) and line.numbers is None else ours
            for named, ours in zip(self._columns, ("tokens", "tags"), strict=True)
        )
        if words in line.values:
            values["tokens"] = line.values[words]
        elif "tokens" not in line.values and words != "tokens":
            raise unknown_column(line.where, words, values)
        if marks in line.values or (words != "tokens" and words in line.values):
            values["tags"] = line.values.get(marks)
        tokens, tags = check_words(RawRow(values, line.path, line.number, line.numbers), None)
        if not all(token.strip() for token in tokens):
            raise DataError.at(line.where, "an empty word", "leave it and its tag out")
        return tokens, tags

    def _in_bio(self, line: RawRow, tags: list[str]) -> list[str]:
        scheme = self.options.scheme
        if scheme == "bioes":
            return bioes_to_bio(tags)
        for index, tag in enumerate(tags):
            if tag[0] not in "OBI":
                number = line.numbers[index] if line.numbers else None
                raise DataError.at(
                    line.at(number),
                    f"tag {tag!r} in a file of the scheme {scheme}, which is that of train",
                    "tag all files alike; or write task: {scheme: bioes}, if train may have such",
                )
        return to_bio(tags) if scheme == "iob1" else tags
