"""Sentences of the CoNLL shared tasks' column files, which may have as many columns as they like.

Two layouts have spans in brackets: CoNLL-2012's columns, and those of CoNLL-2005.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.brackets import bracket_tags
from ptv2_cli.tasks.columns import split_columns
from ptv2_cli.tasks.decoding import read_text

WORD_2012 = 3
"""CoNLL-2012: document, part, number, word, POS, parse, lemma, frameset, sense, speaker, entities,
a column of arguments for each predicate, coreference."""
FRAMESET_2012 = 7
ENTITIES_2012 = 10
LEAST_2012 = 12
_DOCUMENT = ("#begin document", "#end document")


@dataclass(frozen=True)
class Sentence:
    """The words of one sentence, a line each, all with as many columns."""

    path: Path
    numbers: list[int]
    """The line of every word."""
    lines: list[list[str]]
    """The columns of every word."""

    @property
    def width(self) -> int:
        """How many columns its lines have."""
        return len(self.lines[0])

    def where(self, word: int) -> str:
        """`file:line` of a word."""
        return f"{self.path}:{self.numbers[word]}"

    def column(self, at: int) -> list[str]:
        """One column over all words."""
        return [columns[at] for columns in self.lines]

    def tags(self, at: int) -> list[str]:
        """The BIO tags of a column of brackets; see `bracket_tags`."""
        return bracket_tags(self.column(at), self.where)


def read_sentences(path: Path) -> Iterator[Sentence]:
    """The sentences of a file; lines that begin or end a document are skipped.

    Raises:
        DataError: a line with more or fewer columns than the first of its sentence.
    """
    numbers: list[int] = []
    lines: list[list[str]] = []
    for number, text in enumerate([*read_text(path).split("\n"), ""], start=1):
        columns = [] if is_document(text) else split_columns(text)
        if columns:
            if lines and len(columns) != len(lines[0]):
                raise DataError.at(
                    f"{path}:{number}",
                    f"{len(columns)} columns, where line {numbers[0]}, the first of its sentence, "
                    f"has {len(lines[0])}",
                    "every word of a sentence has as many columns; an empty line ends a sentence",
                )
            numbers.append(number)
            lines.append(columns)
        elif lines:
            yield Sentence(path, numbers, lines)
            numbers, lines = [], []


def is_document(text: str) -> bool:
    """Whether a line of a CoNLL-2012 file begins or ends a document."""
    return text.startswith(_DOCUMENT)


def is_conll2012(columns: Sequence[str]) -> bool:
    """Whether a line has CoNLL-2012's columns: the second and third are numbers."""
    return len(columns) >= LEAST_2012 and columns[1].isdecimal() and columns[2].isdecimal()


def first_line(path: Path) -> str:
    """The first line of a file that is neither blank nor about a document; "" if there is none."""
    lines: Iterable[str] = read_text(path).split("\n")
    return next((text for text in lines if text.strip() and not is_document(text)), "")


def require_conll2012(sentence: Sentence) -> None:
    """See that a sentence has CoNLL-2012's columns.

    Raises:
        DataError: it has others.
    """
    for index, columns in enumerate(sentence.lines):
        if not is_conll2012(columns):
            raise DataError.at(
                sentence.where(index),
                f"no line of CoNLL-2012: {len(columns)} columns, {' '.join(columns[:4])!r} first",
                "document, part, number, word, POS, parse, lemma, frameset, sense, speaker, "
                "entities, arguments of each predicate, coreference",
            )
