"""Semantic roles: the arguments of a predicate of the sentence, as in CoNLL-2005 and CoNLL-2012."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
from pydantic import Field

from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.readers import read_split
from ptv2_cli.data.row_checks import check_words
from ptv2_cli.data.rows import DataSource, Row, Split
from ptv2_cli.data.source import corpus_of
from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.layout import Built, Fixed, Layout, TextPart
from ptv2_cli.inputs.ragged import Ragged, joined
from ptv2_cli.scoring.entities import entities
from ptv2_cli.scoring.resampling import precision_recall_f1, resampled_errors
from ptv2_cli.scoring.scores import Prediction, Scores
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.tagging import Tagging, WindowOptions
from ptv2_cli.tasks.user_data import Names, from_train

VERB = "V"
"""The argument that is the predicate itself."""
CONTINUES = "C-"


class Argument(NamedTuple):
    """One argument: its role, and its pieces [start, end) in words, several if it is broken up."""

    role: str
    pieces: tuple[tuple[int, int], ...]


def arguments(tags: Sequence[str]) -> list[Argument]:
    """The arguments that the official scorer, srl-eval, compares.

    The verb itself (V, and C-V) is left out: it is given. C-X is a further piece of the last X
    before it, and the argument is right if its role and all its pieces are; with no X before it,
    it is an X of its own. R-X is a role like any other (Carreras and Marquez 2005, sections 2
    and 4: an argument is right if the words that it spans and its role are).
    """
    read: list[Argument] = []
    for role, start, end in entities(tags):
        base = role.removeprefix(CONTINUES)
        earlier = [index for index, argument in enumerate(read) if argument.role == base]
        if role != base and earlier:
            last = read[earlier[-1]]
            read[earlier[-1]] = last._replace(pieces=(*last.pieces, (start, end)))
        else:
            read.append(Argument(base, ((start, end),)))
    return [argument for argument in read if argument.role != VERB]


def by_role(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 and support of every role, from pairs of predicted and gold tags."""
    right: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    for guess, truth in pairs:
        one, other = set(arguments(guess)), set(arguments(truth))
        right.update(argument.role for argument in one & other)
        guessed.update(argument.role for argument in one)
        gold.update(argument.role for argument in other)
    roles = sorted(gold | guessed)
    return {role: figures(right[role], guessed[role], gold[role]) for role in roles}


def figures(right: float, guessed: float, gold: float) -> dict[str, Any]:
    """Precision, recall, F1 and support of one line of a table."""
    counts = (np.array(count, dtype=float) for count in (right, guessed, gold))
    names = ("precision", "recall", "f1")
    scores = dict(zip(names, map(float, precision_recall_f1(*counts)), strict=True))
    return {**scores, "support": int(gold)}


PREDICATE = "predicate"
LITERAL = "[SEP]"
"""What the reference repository writes between sentence and predicate, whatever the tokenizer."""


class RolesOptions(WindowOptions):
    """Open keys of `task:` for semantic roles."""

    separator: Literal["own", "literal"] = Field(
        "own",
        description="between sentence and predicate: the tokenizer's own, or the text [SEP], "
        "as the reference repository has it",
    )
    labels: Names | None = Field(
        None, description="the tags in BIO, O first; default: those of the roles in train"
    )


class SemanticRoles(Tagging):
    """Rows `{tokens: [...], predicate: INDEX, tags: [...]}`, a row for each predicate.

    The model reads the sentence, a separator and the predicate's word (Shi and Lin 2019, arXiv
    1904.05255); a template has them as {tokens} and {predicate}.
    """

    options_model: ClassVar[type[Section]] = RolesOptions
    origin: ClassVar[str | None] = "tokens"
    spans: ClassVar[str] = "arguments"
    readings: ClassVar[Mapping[str, Callable[[Sequence[str]], Sequence[Any]]]] = {
        "": arguments,
        "_reference": entities,
    }

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        own = cast(RolesOptions, options)
        super().__init__(name, definition.model_copy(update={"labels": own.labels or ()}), options)
        self._separator = own.separator

    def settle(self, source: DataSource) -> Task:
        """With the tags of all roles of the train files; see Task.settle."""
        own = cast(RolesOptions, self.options)
        if own.labels is not None:
            return self
        rows = from_train(self, source, self.formats, self._row)
        types = {tag[2:] for row in rows for tag in row.get("tags", ()) if tag != "O"}
        if not types:
            where = ", ".join(map(str, source.files("train")))
            raise DataError.at(where, "every tag is O: no role to learn", "give labelled rows")
        labels = ("O", *(f"{prefix}-{name}" for name in sorted(types) for prefix in "BI"))
        return self.with_options(labels=labels)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read columns, `|||` lines, jsonl or parquet files; see Task.read."""
        return read_split(self, source, split, limit, self.formats, self._row)

    def expand(self, line: RawRow) -> Iterator[RawRow]:
        """The row with the corpus that its file is of, where a test set has several."""
        corpus = corpus_of(line.path)
        yield line if corpus is None else replace(line, values={**line.values, "corpus": corpus})

    def _row(self, line: RawRow) -> Row:
        tokens, tags = check_words(line, None)
        row: Row = {"id": line.values["id"]} if "id" in line.values else {}
        row |= {"tokens": tokens, PREDICATE: _predicate(line, tokens)}
        if corpus_of(line.path) is not None:
            row["corpus"] = line.values["corpus"]
        if tags is not None:
            self._check_roles(line, tags)
            row["tags"] = tags
        return row

    def _check_roles(self, line: RawRow, tags: list[str]) -> None:
        pattern = re.compile(f"O|[BI]-(?:{self.definition.roles})")
        for index, tag in enumerate(tags):
            if not pattern.fullmatch(tag):
                number = line.numbers[index] if line.numbers else None
                hint = f"a tag is O, B-ROLE or I-ROLE; roles: {self.definition.role_names}"
                raise DataError.at(line.at(number), f"{tag!r} is no tag of a role", hint)

    def content(self, row: Row) -> tuple[Any, ...]:
        """The words, and which is the predicate's."""
        return (*row["tokens"], row[PREDICATE])

    def _layout(self, encoder: Encoder) -> Layout:
        if self._separator == "literal" and encoder.template is None:
            return encoder.layout(self.columns[:1])
        layout = encoder.layout(self.columns)
        first, second = (layout.parts.index(text) for text in layout.texts[:2])
        between = layout.parts[first + 1 : second]
        if encoder.template is None and not any(isinstance(part, Fixed) for part in between):
            raise ConfigError.at(
                "task.separator",
                f"{type(encoder.tokenizer).__name__} puts nothing between two texts, so nothing "
                "would part the predicate from the sentence",
                "write task: {separator: literal}, or take a backbone with a separator",
            )
        return layout

    def _beside(self, rows: Sequence[Row], encoder: Encoder, most: int) -> Ragged:
        """The predicate's tokens, after the literal separator if that is asked for."""
        literal = self._separator == "literal" and encoder.template is None
        lead = [LITERAL] if literal else []
        words = [word for row in rows for word in (*lead, row["tokens"][row[PREDICATE]])]
        tokens = encoder.tokenize_words(words).regrouped(np.full(len(rows), 1 + len(lead)))
        return tokens.first(np.minimum(tokens.lengths, most))

    def _build(self, layout: Layout, text: Ragged, beside: Ragged) -> Built:
        if any(isinstance(part, TextPart) and part.name == PREDICATE for part in layout.parts):
            return layout.build({self.columns[0]: text, PREDICATE: beside})
        return layout.build({self.columns[0]: joined([text, beside])})

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """Arguments by the official count and by the reference's; see Task.score.

        Roles, and the corpora of a test set of several, are under detail.
        """
        self.require_gold(rows)
        statistics = self.row_statistics(rows, predictions)
        errors = resampled_errors(statistics, self.from_statistics)
        values = self.from_statistics(statistics.sum(axis=0))
        tags = ((line["tags"], row["tags"]) for row, line in zip(rows, predictions, strict=True))
        detail: dict[str, Any] = {"roles": by_role(tags), "propositions": len(rows)}
        corpora = [row.get("corpus") for row in rows]
        if len(set(corpora)) > 1:
            detail["corpora"] = {
                str(name): figures(
                    *statistics[[other == name for other in corpora]].sum(axis=0)[:3]
                )
                for name in dict.fromkeys(corpora)
            }
        return self.scores(values, errors, detail)


def _predicate(line: RawRow, tokens: Sequence[str]) -> int:
    """The index of the predicate's word."""
    value = line.values.get(PREDICATE)
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 10:
        value = int(value)  # a cell of a csv file
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(tokens):
        what = "no predicate" if value is None else f"predicate {value!r} of {len(tokens)} words"
        hint = "a row is tokens and predicate, the index of the predicate's word from 0"
        raise DataError.at(line.where, what, hint)
    return value
