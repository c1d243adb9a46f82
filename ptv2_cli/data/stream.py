"""New rows from a stream of bytes, one at a time; a bad row does not end the reading.

Nothing is read ahead, so that rows of any number need the memory of one. A .json file is one
value, an .xlsx file a whole: they are the exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from ptv2_cli.data.conll import (
    WORD_2012,
    ColumnKey,
    NumberedLine,
    is_conll2012,
    named_columns,
    pick_columns,
    sentence_blocks,
    sentence_or_bad,
    split_columns,
    without_comments,
)
from ptv2_cli.data.formats import RawRow, Record, read_each_line, read_json, read_jsonl, short
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
    by_suffix = "squad" if suffix == ".json" and "squad" in known else suffix[1:]
    if "conll" in known and (suffix in _COLUMNED or suffix.endswith("_conll")):
        return "conll"
    if by_suffix in TABLES or by_suffix == "squad":
        return by_suffix
    if "conll" in known:
        return None
    what = f"{suffix} says no format" if suffix else "the name says no format"
    raise DataError.at(str(path), f"{what} that this task reads", f"--format {' | '.join(known)}")


def read_records(
    stream: Iterable[bytes],
    path: Path,
    layout: str | None,
    token: ColumnKey = 0,
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
        return read_each_line(text, text, lambda line, where: {"text": line.strip()})
    return _sentences(text, token)


def _holds_columns(text: TextLines) -> bool:
    """Whether each line holds a word and its columns, and not a sentence.

    They are columns if tabs separate them, if there is one, if the last is a tag, or if they are
    those of CoNLL-2012. They are sentences if neighbours differ in their number of words, or if
    no line has a neighbour.

    Raises:
        DataError: they may be either.
    """
    lines = ["" if line.startswith("# ") else line for line in text.head(LOOKED_AT)]
    blocks = [
        [split_columns(line) for _, line in block] for block in sentence_blocks(enumerate(lines))
    ]
    rows = [columns for block in blocks for columns in block]
    tabbed = sum("\t" in line.strip() for line in lines if split_columns(line))
    if len(rows) == tabbed or all(len(columns) == 1 for columns in rows):
        return True
    if all(len(columns) > 1 and _TAG.fullmatch(columns[-1]) for columns in rows):
        return True
    if is_conll2012(rows[0]):
        return True
    widths = [{len(columns) for columns in block} for block in blocks if len(block) > 1]
    if not widths or any(len(different) > 1 for different in widths):
        return False
    raise DataError.at(
        str(text.path),
        f"may hold words with {len(rows[0])} columns, or sentences of {len(rows[0])} words: "
        f"{short(' '.join(rows[0]))}",
        "--format conll: a word per line; --format text: a sentence per line",
    )


def _sentences(text: TextLines, token: ColumnKey) -> Iterator[Record]:
    """Rows of `tokens` from CoNLL columns, or from a word per line; blank lines end sentences."""
    lines = enumerate(text, start=1)
    index = token if isinstance(token, int) else 0
    first_word: list[NumberedLine] = []
    if isinstance(token, str):
        first = next((line for line in lines if split_columns(line[1])), None)
        columns = split_columns(first[1]) if first else []
        # The first line names the columns, unless it holds just the first word.
        if first and (len(columns) > 1 or columns[0] == token):
            index = named_columns(f"{text.path}:{first[0]}", first[1], (token, 0))[0]
        elif first:
            first_word = [first]

    def row(block: list[NumberedLine]) -> RawRow:
        conll2012 = index == 0 and is_conll2012(split_columns(block[0][1]))
        column = WORD_2012 if conll2012 else index
        return RawRow({"tokens": [word(*line, column) for line in block]}, text.path, block[0][0])

    def word(number: int, line: str, column: int) -> str:
        where, columns = f"{text.path}:{number}", split_columns(line)
        alone = len(columns) == 1
        token = columns[0] if alone else pick_columns(where, columns, (column, column))[0]
        text.check(token, where)
        return token

    rest = without_comments(lines, inside=bool(first_word))
    for block in sentence_blocks(chain(first_word, rest)):
        yield sentence_or_bad(row, block)
