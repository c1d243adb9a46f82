"""From the files of a split to checked rows; every bad row is named by file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from ptv2_cli.config.fingerprint import file_sha256
from ptv2_cli.data.bad_rows import BadRows
from ptv2_cli.data.conll import (
    Place,
    read_columns,
    read_entities_2012,
    read_roles_2005,
    read_roles_2012,
    unknown_column,
)
from ptv2_cli.data.formats import RawRow, Record, read_json, read_jsonl, read_parquet
from ptv2_cli.data.rows import AS_FOUND, DataSource, Reading, Row, RowReader, Split
from ptv2_cli.data.source import data_suffix
from ptv2_cli.data.tabular import DELIMITERS, read_table, read_workbook
from ptv2_cli.data.text_decoding import TextLines, open_text
from ptv2_cli.errors import DataError

COLUMNS: dict[str, tuple[str, Callable[[TextLines], Iterator[Record]]]] = {
    "entities_2012": ("CoNLL-2012 columns or lines of WORD TAG", read_entities_2012),
    "roles_2005": ("CoNLL-2005 columns", read_roles_2005),
    "roles_2012": ("CoNLL-2012 columns", read_roles_2012),
}
"""Layouts of columns that a task names in its definition, and what reads them."""


def read_split(
    task: RowReader,
    source: DataSource,
    split: str,
    limit: int | None,
    formats: Sequence[str],
    make_row: Callable[[RawRow], Row],
    columns: tuple[Place, Place] = (0, -1),
) -> Split:
    """Read the first `limit` rows of a split with `make_row`, which checks each.

    Rows that are scored together, as the answers to a question, count as one. Where the source
    is read with `skip_bad` bad rows are left out.

    `formats` are what the task's shape can read: ".csv", ".tsv", ".jsonl", ".parquet", ".json",
    ".xlsx", "squad" (.json too) and "conll" (any other name), whose `columns` hold the words and
    the tags.

    Raises:
        DataError: the source has no such split, the files hold no row, or rows are bad, see
            `BadRows`.
    """
    files = source.files(split)
    if not files:
        raise DataError.at(
            source.describe(split),
            f"no {split} data",
            f"give task.data a folder that holds it, or task.{split} a file; {task.name} reads "
            f"{_known(formats)}",
        )

    def read(reading: Reading) -> tuple[list[Row], BadRows]:
        bad = BadRows(reading.skip_bad)
        lines = chain.from_iterable(
            read_lines(task, path, formats, columns, reading) for path in files
        )
        made = bad.without(lines, partial(_rows_of_line, task, make_row))
        rows = list(first_units(task, chain.from_iterable(made), limit))
        bad.settle(files, rows)
        return rows, bad

    rows, bad = read(source.reading)
    if not rows:
        names = ", ".join(str(path) for path in files)
        raise DataError.at(names, f"the {split} data is empty", "a split needs at least one row")
    same = not bad.rows and _same_by_default(rows, source.reading, read)
    return Split(rows, content_sha256(files) if same else rows_sha256(rows), files, (*bad.rows,))


def _rows_of_line(task: RowReader, make_row: Callable[[RawRow], Row], line: RawRow) -> list[Row]:
    return [make_row(row) for row in task.expand(line)]


def _same_by_default(
    rows: list[Row], reading: Reading, read: Callable[[Reading], tuple[list[Row], BadRows]]
) -> bool:
    """Whether the files give the same rows where the config says nothing of how to read them."""
    if reading.delimiter is None and reading.encoding is None:
        return True
    try:
        return read(Reading(skip_bad=reading.skip_bad))[0] == rows
    except DataError:
        return False


def first_units(task: RowReader, rows: Iterable[Row], limit: int | None) -> Iterator[Row]:
    """The first `limit` rows, or all rows of the first `limit` units where a task has such."""
    if limit is None:
        yield from rows
        return
    units: set[Hashable] = set()
    alone = 0
    for row in rows:
        unit = task.unit(row)
        if unit is None:
            alone += 1
        elif unit not in units and alone + len(units) >= limit:
            return
        else:
            units.add(unit)
        yield row
        if unit is None and alone >= limit:
            return


def content_sha256(files: Sequence[Path]) -> str:
    """The file's sha256; of several files the sha256 of their digests in order."""
    digests = [file_sha256(path) for path in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def rows_sha256(rows: Iterable[Row]) -> str:
    """The sha256 of rows, as a file of one JSON text per line would have it."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def check_text(line: RawRow, column: str) -> str:
    """The text in a column.

    Raises:
        DataError: the column is missing or holds no text.
    """
    if column not in line.values:
        raise unknown_column(line.at(line.header), column, line.values)
    value = line.values[column]
    if not isinstance(value, str):
        raise DataError.at(
            line.where, f"column {column!r} holds {value!r}", "it must be text in quotes"
        )
    return value


def check_label(line: RawRow, value: Any, labels: Sequence[str], number: int | None = None) -> str:
    """The label as text (JSON's true and false as such); `number`: its own line, if it has one.

    Raises:
        DataError: the task has no such label.
    """
    label = str(value).lower() if isinstance(value, bool) else value
    if label not in labels:
        raise DataError.at(
            line.at(number), f"label {value!r}", f"labels of this task: {', '.join(labels)}"
        )
    return str(label)


def check_words(line: RawRow, labels: Sequence[str] | None) -> tuple[list[str], list[str] | None]:
    """Words and tags of a sentence; tags are None if it has none. `labels` None: any tags.

    Raises:
        DataError: no words, tags of another number, or a tag that the task does not have.
    """
    tokens, tags = line.values.get("tokens"), line.values.get("tags")
    if not _is_texts(tokens) or not tokens:
        raise DataError.at(line.where, "no words", "column tokens must be a list of words")
    if tags is None:
        return tokens, None
    if not isinstance(tags, list) or len(tags) != len(tokens):
        seen = len(tags) if isinstance(tags, list) else "no"
        raise DataError.at(
            line.where, f"{len(tokens)} words but {seen} tags", "every word has one tag"
        )
    if labels is None:
        if not _is_texts(tags):
            raise DataError.at(line.where, f"tags {tags!r}", "column tags must be a list of texts")
        return tokens, tags
    numbers: Sequence[int | None] = line.numbers or [None] * len(tags)
    return tokens, [
        check_label(line, tag, labels, number) for tag, number in zip(tags, numbers, strict=True)
    ]


def check_question(
    line: RawRow, no_answer: bool, hint: str = "use task: qa/squad_v2 for such"
) -> Row:
    """A question with its context and answers; `no_answer`: it may have none, else `hint`.

    Raises:
        DataError: a missing column, an answer that does not stand where it says, or a question
            without an answer in a task where all have one.
    """
    row: Row = {
        name: line.values[name] for name in ("id", "title") if line.values.get(name) is not None
    }
    row["question"] = check_text(line, "question")
    row["context"] = check_text(line, "context")
    where = question_place(line)
    if line.values.get("is_impossible"):
        answers: Any = []
    else:
        answers = line.values.get("answers")
    if answers is None:
        return row
    if isinstance(answers, dict):
        answers = _rows_of_columns(answers, where)
    if not isinstance(answers, list):
        hint = 'write "answers": [{"text": "...", "answer_start": CHARACTER}]'
        raise DataError.at(where, f"answers {answers!r} are no list", hint)
    if not answers and not no_answer:
        raise DataError.at(where, "the question has no answer", hint)
    row["answers"] = [_check_answer(answer, row["context"], where) for answer in answers]
    return row


def question_place(line: RawRow) -> str:
    """Where a question stands: the file, its line if it has one, its id if it has one."""
    return f"{line.where}: question {line.values['id']}" if line.values.get("id") else line.where


def _check_answer(answer: Any, context: str, where: str) -> dict[str, Any]:
    text = answer.get("text") if isinstance(answer, dict) else None
    start = answer.get("answer_start") if isinstance(answer, dict) else None
    if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
        raise DataError.at(
            where, f"answer {answer!r}", 'an answer is {"text": "...", "answer_start": CHARACTER}'
        )
    if not text or start < 0 or not context.startswith(text, start):
        found = context.find(text) if text else -1
        raise DataError.at(
            where,
            f"answer {text!r} does not stand at character {start} of its context",
            f"its first place there is {found}" if found >= 0 else "it stands nowhere in it",
        )
    return {"text": text, "answer_start": start}


def _rows_of_columns(answers: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """`{text: [...], answer_start: [...]}`, as parquet files have answers, to a list."""
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise DataError.at(where, f"answers {answers!r}", "text and answer_start are equal lists")
    return [{"text": text, "answer_start": at} for text, at in zip(texts, starts, strict=True)]


def read_lines(
    task: RowReader,
    path: Path,
    formats: Sequence[str],
    columns: tuple[Place, Place] = (0, -1),
    reading: Reading = AS_FOUND,
) -> Iterator[Record]:
    """The rows of one file, read in the format that its name and the task's shape say."""
    suffix = data_suffix(path)
    if suffix == ".parquet":
        hub = task.hub
        return read_parquet(path, hub.columns if hub else {}, hub.values if hub else {})
    if suffix == ".xlsx" and suffix in formats:
        return read_workbook(path)
    text = open_text(path, reading.encoding)
    if suffix in DELIMITERS and suffix in formats:
        return read_table(text, DELIMITERS[suffix], reading.delimiter)
    if suffix == ".jsonl":
        return read_jsonl(text)
    if suffix == ".json" and {"squad", ".jsonl"} & set(formats):
        return read_json(text, "squad" in formats)
    columned = next((name for name in formats if name in COLUMNS), None)
    if columned is not None and suffix not in {".json", ".csv", ".xlsx"}:
        return COLUMNS[columned][1](text)
    if suffix not in {".json", ".csv", ".xlsx"} and "conll" in formats:
        return read_columns(text, *columns)
    hint = f"it reads {_known(formats)}"
    if "conll" in formats:
        hint += (
            "; CoNLL columns are WORD TAG lines, parted by tabs or spaces, with an empty line "
            f"after a sentence, in a file such as {path.stem}.conll"
        )
    raise DataError.at(str(path), f"{task.name} does not read {suffix or 'such'} files", hint)


def _known(formats: Sequence[str]) -> str:
    names = {"conll": "CoNLL columns", "squad": "SQuAD .json"}
    names |= {layout: name for layout, (name, _) in COLUMNS.items()}
    return ", ".join(names.get(name, name) for name in formats)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
