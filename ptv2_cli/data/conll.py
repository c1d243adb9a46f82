"""CoNLL columns: a word per line, its tag in another column, a blank line after a sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from ptv2_cli.data.formats import BadRow, RawRow, Record, short, tried
from ptv2_cli.data.text_decoding import TextLines
from ptv2_cli.errors import DataError

Place = int | str
"""A column by its index (from 0, or from -1 backwards) or by its name in the first line."""


def read_columns(text: TextLines, token: Place = 0, tag: Place = -1) -> Iterator[Record]:
    """Sentences of a file; the columns of their words and tags are the first and the last.

    Columns are parted by tabs, or by spaces in lines without a tab. -DOCSTART- lines are
    skipped, and the comments of CoNLL-U, see `without_comments`. Columns given by name are
    looked for in the first line that is not blank, which may begin with `#`, and with
    `global.columns =` as CoNLL-U Plus has it. Values are `tokens` and `tags`. A sentence with a
    line that lacks a column is bad.

    Raises:
        DataError: a file that does not name the columns.
    """
    lines = enumerate(chain(text, [""]), start=1)
    places = _places(lines, text, token, tag)
    sentence: list[tuple[int, str]] = []
    for number, line in without_comments(lines):
        if split_columns(line):
            sentence.append((number, line))
        elif sentence:
            yield _record(sentence, text, places)
            sentence = []


def _record(lines: list[tuple[int, str]], text: TextLines, places: tuple[int, int]) -> Record:
    def make() -> RawRow:
        pairs = [_pair(line, f"{text.path}:{number}", text, places) for number, line in lines]
        tokens, tags = map(list, zip(*pairs, strict=True))
        numbers = [number for number, _ in lines]
        return RawRow({"tokens": tokens, "tags": tags}, text.path, numbers[0], numbers)

    return tried(make, lines[0][0], [line.rstrip("\r\n") for _, line in lines])


def _pair(line: str, where: str, text: TextLines, places: tuple[int, int]) -> tuple[str, str]:
    text.check(line, where)
    return pick_columns(where, split_columns(line), places)


def _places(
    lines: Iterator[tuple[int, str]], text: TextLines, token: Place, tag: Place
) -> tuple[int, int]:
    """The indices of the columns; of named ones the first line that is not blank is read."""
    if isinstance(token, int) and isinstance(tag, int):
        return token, tag
    for number, line in lines:
        if split_columns(line):
            text.check(line, f"{text.path}:{number}")
            return named_columns(f"{text.path}:{number}", line, (token, tag))
    return 0, -1


def without_comments(
    lines: Iterable[tuple[int, str]], inside: bool = False
) -> Iterator[tuple[int, str]]:
    """Numbered lines without CoNLL-U's comments: those before a sentence that begin with `# `.

    The word `#` is no comment. It has the columns of the sentence's next line, or of the sentence
    before; where neither is there, a tag behind it. `inside`: the lines begin within a sentence.
    """
    waiting: list[tuple[int, str]] = []
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
    """Whether tabs part a line, and into how many columns."""
    return "\t" in text, len(columns)


def split_columns(text: str) -> list[str]:
    """The columns of a line of CoNLL; none of a blank one and of -DOCSTART-."""
    line = text.strip("\r\n \t")
    if not line or line.startswith("-DOCSTART-"):
        return []
    return [part.strip() for part in re.split(r"\t+" if "\t" in line else r" +", line)]


def unknown_column(where: str, name: str, present: Iterable[str]) -> DataError:
    """The error of a column that a file does not have."""
    known = [column for column in present if column]
    spelled = {column.casefold(): column for column in known}
    near = difflib.get_close_matches(name.casefold(), spelled, n=1)
    guess = f"did you mean {spelled[near[0]]!r}? " if near else ""
    return DataError.at(
        where, f"no column {name!r}", f"{guess}columns here: {', '.join(known) or 'none'}"
    )


def named_columns(where: str, line: str, wanted: Sequence[Place]) -> tuple[int, int]:
    """The indices of columns that the first line names.

    Raises:
        DataError: it does not name one of them.
    """
    header = split_columns(re.sub(r"^#\s*(global\.columns\s*=\s*)?", "", line))
    missing = next((name for name in wanted if isinstance(name, str) and name not in header), None)
    if missing is not None:
        raise unknown_column(where, missing, header)
    first, second = (header.index(at) if isinstance(at, str) else at for at in wanted)
    return first, second


def pick_columns(where: str, parts: list[str], places: tuple[int, int]) -> tuple[str, str]:
    """Two of a line's columns.

    Raises:
        DataError: the line has one column, or not these.
    """
    if len(parts) < 2:
        raise DataError.at(
            where,
            f"one column: {short(parts[0])}",
            "a line is WORD TAG (further columns between them are skipped)",
        )
    try:
        return parts[places[0]], parts[places[1]]
    except IndexError:
        far = next(at for at in places if not -len(parts) <= at < len(parts))
        raise DataError.at(
            where,
            f"no column {far}: {short(' '.join(parts))} has {len(parts)}",
            "columns count from 0, or from -1 backwards: task.token_column, task.tag_column",
        ) from None


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


def read_sentences(text: TextLines) -> Iterator[Sentence | BadRow]:
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


def _sentence(words: list[tuple[int, str]], text: TextLines) -> Sentence:
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
    sentences: Iterable[Sentence | BadRow], make: Callable[[Sentence], Iterable[RawRow]]
) -> Iterator[Record]:
    """The rows that `make` gives of each sentence; all of a sentence are one bad row, or none."""
    for sentence in sentences:
        if isinstance(sentence, BadRow):
            yield sentence
            continue
        read = [" ".join(columns) for columns in sentence.lines]
        found = tried(lambda: list(make(sentence)), sentence.numbers[0], read)  # noqa: B023
        yield from [found] if isinstance(found, BadRow) else found


def is_document(text: str) -> bool:
    """Whether a line of a CoNLL-2012 file begins or ends a document."""
    return text.startswith(_DOCUMENT)


def is_conll2012(columns: Sequence[str]) -> bool:
    """Whether a line has CoNLL-2012's columns: the second and third are numbers."""
    return len(columns) >= LEAST_2012 and columns[1].isdecimal() and columns[2].isdecimal()


def first_line(text: TextLines) -> str:
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


BAR = "|||"


def read_entities_2012(text: TextLines) -> Iterator[Record]:
    """Sentences with `tokens` and `tags` of CoNLL-2012's entity column, or of WORD TAG lines.

    A line without its columns, or brackets that do not pair, make a sentence bad.
    """
    if not is_conll2012(split_columns(first_line(text))):
        return read_columns(text)
    return rows_of(read_sentences(text), _entities_2012)


def _entities_2012(sentence: Sentence) -> Iterator[RawRow]:
    require_conll2012(sentence)
    values = {"tokens": sentence.column(WORD_2012), "tags": sentence.tags(ENTITIES_2012)}
    yield RawRow(values, sentence.path, sentence.numbers[0], sentence.numbers)


def read_roles_2005(text: TextLines) -> Iterator[Record]:
    """A row of `tokens`, `predicate` (a word's index) and `tags` for every predicate.

    The words are the first column. The last columns are brackets, one column for each predicate of
    the sentence; the column before these has the predicates' lemmas, `-` at all other words
    (CoNLL-2005 shared task, Carreras and Marquez 2005). The columns between do not matter. Columns
    that do not fit together, or brackets that do not pair, make a sentence bad.
    """
    if BAR in first_line(text):
        return _read_bars(text)
    return rows_of(read_sentences(text), _roles_2005)


def _roles_2005(sentence: Sentence) -> Iterator[RawRow]:
    first = _first_arguments(sentence)
    predicates = [at for at, lemma in enumerate(sentence.column(first - 1)) if lemma != "-"]
    if len(predicates) != sentence.width - first:
        raise DataError.at(
            sentence.where(0),
            f"{sentence.width - first} columns of arguments, but column {first} has "
            f"{len(predicates)} predicates in this sentence",
            "a column of brackets follows for each word whose predicate column is not -",
        )
    for at, predicate in enumerate(predicates, start=first):
        yield _row(sentence, 0, predicate, sentence.tags(at))


def read_roles_2012(text: TextLines) -> Iterator[Record]:
    """As `read_roles_2005`, of CoNLL-2012's columns; the predicate is where its `(V*` begins."""
    if BAR in first_line(text):
        return _read_bars(text)
    return rows_of(read_sentences(text), _roles_2012)


def _roles_2012(sentence: Sentence) -> Iterator[RawRow]:
    require_conll2012(sentence)
    columns = range(ENTITIES_2012 + 1, sentence.width - 1)
    framed = [at for at, name in enumerate(sentence.column(FRAMESET_2012)) if name != "-"]
    for number, column in enumerate(columns):
        tags = sentence.tags(column)
        if "B-V" in tags:
            predicate = tags.index("B-V")
        elif len(framed) == len(columns):
            predicate = framed[number]
        else:
            what = f"column {column + 1} of this sentence has no (V*: no predicate"
            raise DataError.at(sentence.where(0), what, "(V*) stands at the predicate's word")
        yield _row(sentence, WORD_2012, predicate, tags)


def _first_arguments(sentence: Sentence) -> int:
    """The first of the columns of brackets at the end of a CoNLL-2005 sentence."""
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
    return first


def _row(sentence: Sentence, words: int, predicate: int, tags: list[str]) -> RawRow:
    values = {"tokens": sentence.column(words), "predicate": predicate, "tags": tags}
    return RawRow(values, sentence.path, sentence.numbers[predicate], sentence.numbers)


def _read_bars(text: TextLines) -> Iterator[Record]:
    for number, line in enumerate(text, start=1):
        if line.strip():
            yield tried(partial(_bar, line, text, number), number, line.rstrip("\r\n"))


def _bar(line: str, text: TextLines, number: int) -> RawRow:
    text.check(line, f"{text.path}:{number}")
    left, bar, right = line.partition(BAR)
    head, *words = left.split() or [""]
    if not bar or not head.isdecimal() or len(head) > 9:
        what = f"no line of a predicate: {short(line.strip())}"
        hint = f"it is: index of the predicate from 0, the words, {BAR}, a tag for each word"
        raise DataError.at(f"{text.path}:{number}", what, hint)
    tags = {"tags": right.split()} if right.strip() else {}
    return RawRow({"tokens": words, "predicate": int(head), **tags}, text.path, number)


_BRACKET = re.compile(r"((?:\([^()*\s]+)*)\*((?:[^()*\s]*\))*)")
_HINT = "(TYPE* begins a span, * goes on with it, *) ends it, (TYPE*) is a span of one word"


def bracket_tags(values: Sequence[str], where: Callable[[int], str]) -> list[str]:
    """The BIO tags of a column of brackets, in which no span stands inside another.

    Args:
        values: the column over the words of one sentence. `*TYPE)` may end a span as `*)` does.
        where: the place of a word's line, by the word's index, for messages.

    Raises:
        DataError: a value that is no bracket, or brackets that do not pair.
    """
    tags: list[str] = []
    kind, opened = "", 0
    for index, value in enumerate(values):
        begun, ended = _parts(value, where(index))
        if begun and (kind or len(begun) > 1):
            what = f"{value!r} begins a span inside {kind or begun[0]}"
            raise DataError.at(where(index), what, "spans of one column stand side by side")
        if begun:
            kind, opened = begun[0], index
        tags.append(f"{'B' if begun else 'I'}-{kind}" if kind else "O")
        if len(ended) > bool(kind):
            raise DataError.at(where(index), f"{value!r} ends a span that nothing began", _HINT)
        if ended and ended[0] not in {"", kind}:
            raise DataError.at(where(index), f"{value!r} ends a span of {kind}", _HINT)
        kind = "" if ended else kind
    if kind:
        what = f"the span ({kind}* that begins here does not end in its sentence"
        raise DataError.at(where(opened), what, _HINT)
    return tags


def _parts(value: str, where: str) -> tuple[list[str], list[str]]:
    """The types that begin at a word, and those (mostly not named) that end there."""
    found = _BRACKET.fullmatch(value)
    if found is None:
        raise DataError.at(where, f"{value!r} is no bracket", _HINT)
    return found[1].split("(")[1:], found[2].split(")")[:-1]
