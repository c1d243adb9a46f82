"""New rows from a stream of bytes, one at a time; a bad row does not end the reading.

Nothing is read ahead, so that rows of any number need the memory of one. A .json file is one
value, an .xlsx file a whole: they are the exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from ptv2_cli.data.conll import (
    WORD_2012,
    Place,
    is_conll2012,
    is_document,
    named_columns,
    pick_columns,
    split_columns,
    without_comments,
)
from ptv2_cli.data.formats import RawRow, Record, read_json, read_jsonl, short, tried
from ptv2_cli.data.rows import AS_FOUND, Reading
from ptv2_cli.data.source import data_suffix
from ptv2_cli.data.tabular import DELIMITERS, read_table, read_workbook
from ptv2_cli.data.text_decoding import TextLines
from ptv2_cli.errors import DataError
from ptv2_cli.kinds import Kind, kind_spec

TABLES = ("jsonl", "csv", "tsv", "json", "xlsx")
_COLUMNED = {".tsv", ".conll", ".bio", ".iob", ".iob2"}
"""Endings of files for taggers that say columns."""
LOOKED_AT = 200
"""Lines that show whether a file holds columns or sentences."""
_TAG = re.compile(r"O|[A-Z]-\S+")


def formats_of(kind: Kind) -> tuple[str, ...]:
    """Formats in which new rows of a task may come."""
    return (*TABLES, *kind_spec(kind).formats)


def format_by_name(path: Path, kind: Kind) -> str | None:
    """The format that a file's name says; for tagging a .tsv holds CoNLL columns.

    None: for tagging, names such as .txt, which say neither columns nor sentences.

    Raises:
        DataError: the name says none that the task reads.
    """
    suffix = data_suffix(path)
    known = formats_of(kind)
    found = "squad" if suffix == ".json" and "squad" in known else suffix[1:]
    if "conll" in known and (suffix in _COLUMNED or suffix.endswith("_conll")):
        return "conll"
    if found in TABLES or found == "squad":
        return found
    if "conll" in known:
        return None
    what = f"{suffix} says no format" if suffix else "the name says no format"
    raise DataError.at(str(path), f"{what} that this task reads", f"--format {' | '.join(known)}")


def read_records(
    stream: Iterable[bytes],
    path: Path,
    layout: str | None,
    token: Place = 0,
    reading: Reading = AS_FOUND,
) -> Iterator[Record]:
    """Rows of a stream in the format `layout`; `path` is what messages call the stream.

    `token` is the column of the words in CoNLL files, where they have more than one. Without a
    layout the lines show whether they hold columns or sentences.

    Raises:
        DataError: a header, or a file that is one value, that no row can be read with.
    """
    if layout == "xlsx":
        return read_workbook(path, b"".join(stream))
    text = TextLines(stream, path, reading.encoding, file=path if path.is_file() else None)
    if layout == "jsonl":
        return read_jsonl(text)
    if layout in {"json", "squad"}:
        return read_json(text, squad=layout == "squad")
    if layout in {"csv", "tsv"}:
        return read_table(text, DELIMITERS[f".{layout}"], reading.delimiter)
    if layout == "text" or (layout is None and not _holds_columns(text)):
        return _plain_lines(text)
    return _sentences(text, token)


def _holds_columns(text: TextLines) -> bool:
    """Whether lines hold a word and its columns each, and not a sentence.

    Columns are parted by tabs, or are one, or end in a tag, or are those of CoNLL-2012. Lines
    are sentences where neighbours differ in their number of words, or have no neighbour.

    Raises:
        DataError: they may be either.
    """
    blocks: list[list[list[str]]] = [[]]
    tabbed = 0
    for line in text.head(LOOKED_AT):
        columns = [] if is_document(line) or line.startswith("# ") else split_columns(line)
        tabbed += bool(columns) and "\t" in line.strip()
        blocks[-1] += [columns] if columns else []
        blocks += [] if columns or not blocks[-1] else [[]]
    rows = [columns for block in blocks for columns in block]
    if len(rows) == tabbed or all(len(columns) == 1 for columns in rows):
        return True
    if all(len(columns) > 1 and _TAG.fullmatch(columns[-1]) for columns in rows):
        return True
    if is_conll2012(rows[0]):
        return True
    widths = [{len(columns) for columns in block} for block in blocks if len(block) > 1]
    if not widths or any(len(found) > 1 for found in widths):
        return False
    raise DataError.at(
        str(text.path),
        f"may hold words with {len(rows[0])} columns, or sentences of {len(rows[0])} words: "
        f"{short(' '.join(rows[0]))}",
        "--format conll: a word per line; --format text: a sentence per line",
    )


def _plain_lines(text: TextLines) -> Iterator[Record]:
    """A row per line that is not blank, of its text."""
    for number, line in enumerate(text, start=1):
        if line.strip():
            yield tried(partial(_plain_line, line.strip(), text, number), number, line.strip())


def _plain_line(line: str, text: TextLines, number: int) -> RawRow:
    text.check(line, f"{text.path}:{number}")
    return RawRow({"text": line}, text.path, number)


def _sentences(text: TextLines, token: Place) -> Iterator[Record]:
    """CoNLL columns, or a word per line; blank lines end sentences.

    CoNLL-2012's columns are known by their numbers, and their words found.
    """
    lines = ("" if is_document(line) else line for line in text)
    place = token if isinstance(token, int) else None
    words: list[tuple[int, list[str]]] = []
    numbered = enumerate(lines, start=1)
    for number, line in numbered if place is None else ():
        columns = split_columns(line)
        if columns:
            # The first line names the columns, unless it holds just the first word.
            if len(columns) > 1 or columns[0] == token:
                place = named_columns(f"{text.path}:{number}", line, (token, 0))[0]
            else:
                words.append((number, columns))
            break
    for number, line in without_comments(numbered, inside=bool(words)):
        columns = split_columns(line)
        if columns:
            words.append((number, columns))
        elif words:
            yield _sentence(words, text, place or 0)
            words = []
    if words:
        yield _sentence(words, text, place or 0)


def _sentence(lines: list[tuple[int, list[str]]], text: TextLines, place: int) -> Record:
    first, columns = lines[0]
    place = WORD_2012 if place == 0 and is_conll2012(columns) else place

    def make() -> RawRow:
        tokens = [_word(text, number, columns, place) for number, columns in lines]
        return RawRow({"tokens": tokens}, text.path, first)

    return tried(make, first, [" ".join(columns) for _, columns in lines])


def _word(text: TextLines, number: int, columns: list[str], place: int) -> str:
    where = f"{text.path}:{number}"
    word = columns[0] if len(columns) == 1 else pick_columns(where, columns, (place, place))[0]
    text.check(word, where)
    return word
