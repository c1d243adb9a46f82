"""Sentences of the CoNLL shared tasks' column files, which may have as many columns as they like.

Two layouts have spans in brackets: CoNLL-2012's columns, and those of CoNLL-2005.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.brackets import bracket_tags
from ptv2_cli.tasks.columns import split_columns
from ptv2_cli.tasks.decoding import Text
from ptv2_cli.tasks.formats import Bad, Line, Record, tried

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


def read_sentences(text: Text) -> Iterator[Sentence | Bad]:
    """The sentences of a file; lines that begin or end a document are skipped.

    A sentence with a line of more or fewer columns than its first is bad.
    """
    words: list[tuple[int, str]] = []
    for number, line in enumerate(chain(text, [""]), start=1):
        if not is_document(line) and split_columns(line):
            words.append((number, line))
        elif words:
            read = [line.rstrip("\r\n") for _, line in words]
            yield tried(partial(_sentence, words, text), words[0][0], read)
            words = []


def _sentence(words: list[tuple[int, str]], text: Text) -> Sentence:
    numbers = [number for number, _ in words]
    lines = [split_columns(line) for _, line in words]
    for number, (_, line), columns in zip(numbers, words, lines, strict=True):
        text.check(line, f"{text.path}:{number}")
        if len(columns) != len(lines[0]):
            raise DataError.at(
                f"{text.path}:{number}",
                f"{len(columns)} columns, where line {numbers[0]}, the first of its sentence, "
                f"has {len(lines[0])}",
                "every word of a sentence has as many columns; an empty line ends a sentence",
            )
    return Sentence(text.path, numbers, lines)


def rows_of(
    sentences: Iterable[Sentence | Bad], make: Callable[[Sentence], Iterable[Line]]
) -> Iterator[Record]:
    """The rows that `make` gives of each sentence; all of a sentence are one bad row, or none."""
    for sentence in sentences:
        if isinstance(sentence, Bad):
            yield sentence
            continue
        read = [" ".join(columns) for columns in sentence.lines]
        found = tried(lambda: list(make(sentence)), sentence.numbers[0], read)  # noqa: B023
        yield from [found] if isinstance(found, Bad) else found


def is_document(text: str) -> bool:
    """Whether a line of a CoNLL-2012 file begins or ends a document."""
    return text.startswith(_DOCUMENT)


def is_conll2012(columns: Sequence[str]) -> bool:
    """Whether a line has CoNLL-2012's columns: the second and third are numbers."""
    return len(columns) >= LEAST_2012 and columns[1].isdecimal() and columns[2].isdecimal()


def first_line(text: Text) -> str:
    """The first line that is neither blank nor about a document; "" if there is none."""
    return text.first(lambda line: line.strip() and not is_document(line))


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
