"""Predicates and their arguments as the files of CoNLL-2005 and CoNLL-2012 have them.

Both may come as `PREDICATE WORD ... ||| TAG ...` too, a line for each predicate, which is what the
reference repository reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.columns import read_columns, split_columns
from ptv2_cli.tasks.decoding import read_text
from ptv2_cli.tasks.formats import Line, short
from ptv2_cli.tasks.sentences import (
    ENTITIES_2012,
    FRAMESET_2012,
    WORD_2012,
    Sentence,
    first_line,
    is_conll2012,
    read_sentences,
    require_conll2012,
)

BAR = "|||"


def read_entities_2012(path: Path) -> Iterator[Line]:
    """Sentences with `tokens` and `tags` of CoNLL-2012's entity column, or of WORD TAG lines.

    Raises:
        DataError: a line without its columns, or brackets that do not pair.
    """
    if not is_conll2012(split_columns(first_line(path))):
        yield from read_columns(path)
        return
    for sentence in read_sentences(path):
        require_conll2012(sentence)
        values = {"tokens": sentence.column(WORD_2012), "tags": sentence.tags(ENTITIES_2012)}
        yield Line(values, path, sentence.numbers[0], sentence.numbers)


def read_roles_2005(path: Path) -> Iterator[Line]:
    """A row of `tokens`, `predicate` (a word's index) and `tags` for every predicate.

    The words are the first column. The last columns are brackets, one column for each predicate of
    the sentence; the column before these has the predicates' lemmas, `-` at all other words
    (CoNLL-2005 shared task, Carreras and Marquez 2005). The columns between do not matter.

    Raises:
        DataError: columns that do not fit together, or brackets that do not pair.
    """
    if BAR in first_line(path):
        yield from _read_bars(path)
        return
    for sentence in read_sentences(path):
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


def read_roles_2012(path: Path) -> Iterator[Line]:
    """As `read_roles_2005`, of CoNLL-2012's columns; the predicate is where its `(V*` begins.

    Raises:
        DataError: columns that do not fit together, or brackets that do not pair.
    """
    if BAR in first_line(path):
        yield from _read_bars(path)
        return
    for sentence in read_sentences(path):
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


def _read_bars(path: Path) -> Iterator[Line]:
    for number, text in enumerate(read_text(path).split("\n"), start=1):
        if text.strip():
            yield _bar(text, path, number)


def _bar(text: str, path: Path, number: int) -> Line:
    left, bar, right = text.partition(BAR)
    head, *words = left.split() or [""]
    if not bar or not head.isdecimal():
        what = f"no line of a predicate: {short(text.strip())}"
        hint = f"it is: index of the predicate from 0, the words, {BAR}, a tag for each word"
        raise DataError.at(f"{path}:{number}", what, hint)
    tags = {"tags": right.split()} if right.strip() else {}
    return Line({"tokens": words, "predicate": int(head), **tags}, path, number)
