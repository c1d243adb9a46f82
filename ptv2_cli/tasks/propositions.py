"""Predicates and their arguments as the files of CoNLL-2005 and CoNLL-2012 have them.

Both may come as `PREDICATE WORD ... ||| TAG ...` too, a line for each predicate, which is what the
reference repository reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.columns import read_columns, split_columns
from ptv2_cli.tasks.decoding import Text
from ptv2_cli.tasks.formats import Line, Record, short, tried
from ptv2_cli.tasks.sentences import (
    ENTITIES_2012,
    FRAMESET_2012,
    WORD_2012,
    Sentence,
    first_line,
    is_conll2012,
    read_sentences,
    require_conll2012,
    rows_of,
)

BAR = "|||"


def read_entities_2012(text: Text) -> Iterator[Record]:
    """Sentences with `tokens` and `tags` of CoNLL-2012's entity column, or of WORD TAG lines.

    A line without its columns, or brackets that do not pair, make a sentence bad.
    """
    if not is_conll2012(split_columns(first_line(text))):
        return read_columns(text)
    return rows_of(read_sentences(text), _entities_2012)


def _entities_2012(sentence: Sentence) -> Iterator[Line]:
    require_conll2012(sentence)
    values = {"tokens": sentence.column(WORD_2012), "tags": sentence.tags(ENTITIES_2012)}
    yield Line(values, sentence.path, sentence.numbers[0], sentence.numbers)


def read_roles_2005(text: Text) -> Iterator[Record]:
    """A row of `tokens`, `predicate` (a word's index) and `tags` for every predicate.

    The words are the first column. The last columns are brackets, one column for each predicate of
    the sentence; the column before these has the predicates' lemmas, `-` at all other words
    (CoNLL-2005 shared task, Carreras and Marquez 2005). The columns between do not matter. Columns
    that do not fit together, or brackets that do not pair, make a sentence bad.
    """
    if BAR in first_line(text):
        return _read_bars(text)
    return rows_of(read_sentences(text), _roles_2005)


def _roles_2005(sentence: Sentence) -> Iterator[Line]:
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


def read_roles_2012(text: Text) -> Iterator[Record]:
    """As `read_roles_2005`, of CoNLL-2012's columns; the predicate is where its `(V*` begins."""
    if BAR in first_line(text):
        return _read_bars(text)
    return rows_of(read_sentences(text), _roles_2012)


def _roles_2012(sentence: Sentence) -> Iterator[Line]:
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


def _row(sentence: Sentence, words: int, predicate: int, tags: list[str]) -> Line:
    values = {"tokens": sentence.column(words), "predicate": predicate, "tags": tags}
    return Line(values, sentence.path, sentence.numbers[predicate], sentence.numbers)


def _read_bars(text: Text) -> Iterator[Record]:
    for number, line in enumerate(text, start=1):
        if line.strip():
            yield tried(partial(_bar, line, text, number), number, line.rstrip("\r\n"))


def _bar(line: str, text: Text, number: int) -> Line:
    text.check(line, f"{text.path}:{number}")
    left, bar, right = line.partition(BAR)
    head, *words = left.split() or [""]
    if not bar or not head.isdecimal() or len(head) > 9:
        what = f"no line of a predicate: {short(line.strip())}"
        hint = f"it is: index of the predicate from 0, the words, {BAR}, a tag for each word"
        raise DataError.at(f"{text.path}:{number}", what, hint)
    tags = {"tags": right.split()} if right.strip() else {}
    return Line({"tokens": words, "predicate": int(head), **tags}, text.path, number)
