"""CoNLL columns: a word per line, its tag in another column, a blank line after a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from ptv2_cli.data.formats import (
    BadRow,
    RawRow,
    Record,
    read_each_line,
    row_or_bad,
    short,
    unknown_column,
)
from ptv2_cli.data.text_decoding import TextLines
from ptv2_cli.errors import DataError

T = TypeVar("T")
ColumnKey = int | str
"""A column by its index (from 0, or from -1 backwards) or by its name in the first line."""
NumberedLine = tuple[int, str]
_SKIPPED = ("-DOCSTART-", "#begin document", "#end document")
"""How lines begin that belong to no sentence."""


def split_columns(text: str) -> list[str]:
    """The columns of a line; none if it is blank, or begins or ends a document."""
    line = text.strip("\r\n \t")
    if not line or line.startswith(_SKIPPED):
        return []
    return [part.strip() for part in re.split(r"\t+" if "\t" in line else r" +", line)]


def sentence_blocks(lines: Iterable[NumberedLine]) -> Iterator[list[NumberedLine]]:
    """The lines of each sentence; lines without columns separate sentences."""
    for filled, block in groupby(lines, key=lambda line: bool(split_columns(line[1]))):
        if filled:
            yield list(block)


def sentence_or_bad(
    make: Callable[[list[NumberedLine]], T], block: list[NumberedLine]
) -> T | BadRow:
    """What `make` gives of a sentence's lines, or the sentence as a bad row."""
    read = [line.rstrip("\r\n") for _, line in block]
    return row_or_bad(partial(make, block), block[0][0], read)


def read_columns(text: TextLines, token: ColumnKey = 0, tag: ColumnKey = -1) -> Iterator[Record]:
    """Sentences of a file as rows of `tokens` and `tags`.

    Tabs separate columns; spaces do in lines without a tab. Lines that begin or end a document
    are skipped, and so are the comments of CoNLL-U, see `without_comments`. Named columns are
    looked up in the first line that is not blank. It may begin with `#`, or with
    `global.columns =` as CoNLL-U Plus has it. A sentence with a line that lacks a column is bad.

    Args:
        text: the lines.
        token: the column of the words.
        tag: the column of the tags.

    Raises:
        DataError: the file does not name the columns.
    """
    lines = enumerate(text, start=1)
    indices = (0, -1)
    if isinstance(token, int) and isinstance(tag, int):
        indices = token, tag
    else:
        first = next((line for line in lines if split_columns(line[1])), None)
        if first is not None:
            where = f"{text.path}:{first[0]}"
            text.check(first[1], where)
            indices = named_columns(where, first[1], (token, tag))

    def row(block: list[NumberedLine]) -> RawRow:
        pairs = []
        for number, line in block:
            where = f"{text.path}:{number}"
            text.check(line, where)
            pairs.append(pick_columns(where, split_columns(line), indices))
        tokens, tags = map(list, zip(*pairs, strict=True))
        numbers = [number for number, _ in block]
        return RawRow({"tokens": tokens, "tags": tags}, text.path, numbers[0], numbers)

    for block in sentence_blocks(without_comments(lines)):
        yield sentence_or_bad(row, block)


def without_comments(lines: Iterable[NumberedLine], inside: bool = False) -> Iterator[NumberedLine]:
    """The lines without CoNLL-U's comments: those before a sentence that begin with `# `.

    The word `#` is no comment. Its line has as many columns as the sentence's next line, or as the
    sentence before; if there is neither, its second column is a tag.

    Args:
        lines: with their numbers.
        inside: whether the lines begin within a sentence.
    """
    waiting: list[NumberedLine] = []
    shape: tuple[bool, int] | None = None
    for number, text in lines:
        columns = split_columns(text)
        if not inside and columns and (columns[0] == "#" or columns[0].startswith("# ")):
            waiting.append((number, text))
            continue
        shape = _shape(text, columns) if columns else shape
        yield from (line for line in waiting if _is_word(line[1], shape))
        waiting = []
        inside = bool(columns)
        yield number, text
    yield from (line for line in waiting if _is_word(line[1], shape))


def _is_word(text: str, shape: tuple[bool, int] | None) -> bool:
    """Whether a line that begins with `#` is a word's, in a file whose lines have this shape."""
    columns = split_columns(text)
    return _shape(text, columns) == shape or (
        len(columns) == 2 and re.fullmatch(r"O|[A-Z]-\S+", columns[1]) is not None
    )


def _shape(text: str, columns: Sequence[str]) -> tuple[bool, int]:
    """Whether tabs separate the columns, and how many there are."""
    return "\t" in text, len(columns)


def named_columns(where: str, line: str, wanted: Sequence[ColumnKey]) -> tuple[int, int]:
    """The indices of two columns that the first line names.

    Raises:
        DataError: it does not name one of them.
    """
    header = split_columns(re.sub(r"^#\s*(global\.columns\s*=\s*)?", "", line))
    missing = next((name for name in wanted if isinstance(name, str) and name not in header), None)
    if missing is not None:
        raise unknown_column(where, missing, header)
    first, second = (header.index(key) if isinstance(key, str) else key for key in wanted)
    return first, second


def pick_columns(where: str, columns: list[str], indices: tuple[int, int]) -> tuple[str, str]:
    """Two of a line's columns.

    Raises:
        DataError: the line has one column, or not these.
    """
    if len(columns) < 2:
        raise DataError.at(
            where,
            f"one column: {short(columns[0])}",
            "a line is WORD TAG (further columns between them are skipped)",
        )
    try:
        return columns[indices[0]], columns[indices[1]]
    except IndexError:
        far = next(index for index in indices if not -len(columns) <= index < len(columns))
        raise DataError.at(
            where,
            f"no column {far}: {short(' '.join(columns))} has {len(columns)}",
            "columns count from 0, or from -1 backwards: task.token_column, task.tag_column",
        ) from None


WORD_2012 = 3
"""CoNLL-2012: document, part, number, word, POS, parse, lemma, frameset, sense, speaker, entities,
a column of arguments for each predicate, coreference."""
FRAMESET_2012 = 7
ENTITIES_2012 = 10
LEAST_2012 = 12
"""Columns of a sentence without a predicate."""
BAR = "|||"


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

    def column(self, index: int) -> list[str]:
        """One column over all words."""
        return [columns[index] for columns in self.lines]

    def tags(self, index: int) -> list[str]:
        """The BIO tags of a column of brackets; see `bracket_tags`."""
        return bracket_tags(self.column(index), self.where)


def _read_sentences(
    text: TextLines, rows_of: Callable[[Sentence], Iterable[RawRow]]
) -> Iterator[Record]:
    """The rows that `rows_of` gives of each sentence; one bad row if it refuses the sentence.

    A sentence with a line of more or fewer columns than its first is bad.
    """

    def rows(block: list[NumberedLine]) -> list[RawRow]:
        lines = [split_columns(line) for _, line in block]
        for (number, line), columns in zip(block, lines, strict=True):
            text.check(line, f"{text.path}:{number}")
            if len(columns) != len(lines[0]):
                raise DataError.at(
                    f"{text.path}:{number}",
                    f"{len(columns)} columns, but line {block[0][0]}, the first of its sentence, "
                    f"has {len(lines[0])}",
                    "every word of a sentence has as many columns; an empty line ends a sentence",
                )
        return list(rows_of(Sentence(text.path, [number for number, _ in block], lines)))

    for block in sentence_blocks(enumerate(text, start=1)):
        made = sentence_or_bad(rows, block)
        yield from [made] if isinstance(made, BadRow) else made


def is_conll2012(columns: Sequence[str]) -> bool:
    """Whether a line has CoNLL-2012's columns: the second and third are numbers."""
    return len(columns) >= LEAST_2012 and columns[1].isdecimal() and columns[2].isdecimal()


def _require_conll2012(sentence: Sentence) -> None:
    for index, columns in enumerate(sentence.lines):
        if not is_conll2012(columns):
            raise DataError.at(
                sentence.where(index),
                f"no line of CoNLL-2012: {len(columns)} columns, {' '.join(columns[:4])!r} first",
                "document, part, number, word, POS, parse, lemma, frameset, sense, speaker, "
                "entities, arguments of each predicate, coreference",
            )


def read_entities_2012(text: TextLines) -> Iterator[Record]:
    """Rows of `tokens` and `tags`: CoNLL-2012's entity column, or lines of WORD TAG.

    A line without its columns, or brackets that do not pair, make a sentence bad.
    """
    if not is_conll2012(split_columns(text.first(split_columns))):
        return read_columns(text)
    return _read_sentences(text, _entities_2012)


def _entities_2012(sentence: Sentence) -> Iterator[RawRow]:
    _require_conll2012(sentence)
    values = {"tokens": sentence.column(WORD_2012), "tags": sentence.tags(ENTITIES_2012)}
    yield RawRow(values, sentence.path, sentence.numbers[0], sentence.numbers)


def read_roles_2005(text: TextLines) -> Iterator[Record]:
    """A row of `tokens`, `predicate` (a word's index) and `tags` for every predicate.

    The first column holds the words. The last columns hold brackets, one column for each predicate
    of the sentence. The column before these holds the predicates' lemmas, and `-` at all other
    words (CoNLL-2005 shared task, Carreras and Marquez 2005). The columns between do not matter.
    Columns that do not fit together, or brackets that do not pair, make a sentence bad.
    """
    return _read_roles(text, _roles_2005)


def read_roles_2012(text: TextLines) -> Iterator[Record]:
    """As `read_roles_2005`, of CoNLL-2012's columns; the predicate is where its `(V*` begins."""
    return _read_roles(text, _roles_2012)


def _read_roles(
    text: TextLines, rows_of: Callable[[Sentence], Iterable[RawRow]]
) -> Iterator[Record]:
    if BAR in text.first(split_columns):
        return read_each_line(text, text, _bar_values)
    return _read_sentences(text, rows_of)


def _roles_2005(sentence: Sentence) -> Iterator[RawRow]:
    first = sentence.width
    while first > 1 and all("*" in value for value in sentence.column(first - 1)):
        first -= 1
    if first < 2:
        raise DataError.at(
            sentence.where(0),
            "no column of predicates",
            "columns are the word, any others, the predicate's lemma or -, and a column of "
            "brackets for each predicate",
        )
    predicates = [word for word, lemma in enumerate(sentence.column(first - 1)) if lemma != "-"]
    if len(predicates) != sentence.width - first:
        raise DataError.at(
            sentence.where(0),
            f"{sentence.width - first} columns of arguments, but column {first} has "
            f"{len(predicates)} predicates in this sentence",
            "a column of brackets follows for each word whose predicate column is not -",
        )
    for column, predicate in enumerate(predicates, start=first):
        yield _role_row(sentence, 0, predicate, sentence.tags(column))


def _roles_2012(sentence: Sentence) -> Iterator[RawRow]:
    _require_conll2012(sentence)
    columns = range(ENTITIES_2012 + 1, sentence.width - 1)
    framed = [word for word, name in enumerate(sentence.column(FRAMESET_2012)) if name != "-"]
    for number, column in enumerate(columns):
        tags = sentence.tags(column)
        if "B-V" in tags:
            predicate = tags.index("B-V")
        elif len(framed) == len(columns):
            predicate = framed[number]
        else:
            what = f"column {column + 1} of this sentence has no (V*: no predicate"
            raise DataError.at(sentence.where(0), what, "write (V*) at the predicate's word")
        yield _role_row(sentence, WORD_2012, predicate, tags)


def _role_row(sentence: Sentence, words: int, predicate: int, tags: list[str]) -> RawRow:
    values = {"tokens": sentence.column(words), "predicate": predicate, "tags": tags}
    return RawRow(values, sentence.path, sentence.numbers[predicate], sentence.numbers)


def _bar_values(line: str, where: str) -> dict[str, Any]:
    """The values of a line `INDEX WORDS ||| TAGS`; the tags may be missing."""
    left, bar, right = line.partition(BAR)
    head, *words = left.split() or [""]
    if not bar or not head.isdecimal() or len(head) > 9:
        what = f"no line of a predicate: {short(line.strip())}"
        hint = f"it is: index of the predicate from 0, the words, {BAR}, a tag for each word"
        raise DataError.at(where, what, hint)
    tags = {"tags": right.split()} if right.strip() else {}
    return {"tokens": words, "predicate": int(head), **tags}


_BRACKET = re.compile(r"((?:\([^()*\s]+)*)\*((?:[^()*\s]*\))*)")
_BRACKET_HINT = "(TYPE* begins a span, * continues it, *) ends it, (TYPE*) is a span of one word"


def bracket_tags(values: Sequence[str], where: Callable[[int], str]) -> list[str]:
    """The BIO tags of a column of brackets, in which no span lies inside another.

    Args:
        values: the column over the words of one sentence. `*TYPE)` may end a span as `*)` does.
        where: `file:line` of a word, by the word's index, for messages.

    Raises:
        DataError: a value that is no bracket, or brackets that do not pair.
    """
    tags: list[str] = []
    kind, start = "", 0
    for index, value in enumerate(values):
        match = _BRACKET.fullmatch(value)
        if match is None:
            raise DataError.at(where(index), f"{value!r} is no bracket", _BRACKET_HINT)
        begun, ended = match[1].split("(")[1:], match[2].split(")")[:-1]
        if begun and (kind or len(begun) > 1):
            what = f"{value!r} begins a span inside {kind or begun[0]}"
            raise DataError.at(where(index), what, "a column holds no span inside another")
        if begun:
            kind, start = begun[0], index
        tags.append(f"{'B' if begun else 'I'}-{kind}" if kind else "O")
        if len(ended) > bool(kind):
            what = f"{value!r} ends a span that nothing began"
            raise DataError.at(where(index), what, _BRACKET_HINT)
        if ended and ended[0] not in {"", kind}:
            raise DataError.at(where(index), f"{value!r} ends a span of {kind}", _BRACKET_HINT)
        kind = "" if ended else kind
    if kind:
        what = f"the span ({kind}* that begins here does not end in its sentence"
        raise DataError.at(where(start), what, _BRACKET_HINT)
    return tags
