"""From the files of a split to checked rows; every bad row is named by file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

from ptv2_cli.config.file_hashes import known_sha256
from ptv2_cli.data.conll import (
    ColumnKey,
    read_columns,
    read_entities_2012,
    read_roles_2005,
    read_roles_2012,
)
from ptv2_cli.data.formats import (
    BadRow,
    RawRow,
    Record,
    read_json,
    read_jsonl,
    read_parquet,
)
from ptv2_cli.data.row_store import RowStore
from ptv2_cli.data.rows import AS_FOUND, DataSource, Reading, Row, RowReader, SourceRow, Split
from ptv2_cli.data.source import data_suffix
from ptv2_cli.data.tabular import DELIMITERS, read_table, read_workbook
from ptv2_cli.data.text_decoding import TextLines, open_text
from ptv2_cli.errors import DataError, Problem

T = TypeVar("T")
COLUMN_LAYOUTS: dict[str, tuple[str, Callable[[TextLines], Iterator[Record]]]] = {
    "entities_2012": ("CoNLL-2012 columns or lines of WORD TAG", read_entities_2012),
    "roles_2005": ("CoNLL-2005 columns", read_roles_2005),
    "roles_2012": ("CoNLL-2012 columns", read_roles_2012),
}
"""Layouts of columns that a task names in its definition: what messages call them, the reader."""
_NO_COLUMNS = {".json", ".csv", ".xlsx"}
SHOWN = 10
"""Bad rows that an error names."""


class BadRows:
    """The bad rows of some files: left out, or named together in one error."""

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self.rows: list[BadRow] = []
        """Those that are left out."""
        self._shown: list[Problem] = []
        self._seen: set[int] = set()
        """Hashes of their errors: a column that is missing from a header is missing once."""

    def good(self, records: Iterable[Record], make: Callable[[RawRow], T]) -> Iterator[T]:
        """What `make` gives of each record that is good; the bad ones are kept here."""
        for record in records:
            if isinstance(record, BadRow):
                self._note(record)
                continue
            try:
                made = make(record)
            except DataError as error:
                self._note(BadRow(record.number, error, record.values))
                continue
            yield made

    def check(self, files: Sequence[Path], good: int) -> None:
        """Raise what is wrong, after all is read; `good` rows can be used.

        Raises:
            DataError: bad rows are not left out, or there are no others.
        """
        if self.skip:
            if self.rows and not good:
                what = f"no row of {len(self.rows)} can be used"
                raise DataError(Problem(_joined(files), what), *self._shown[:1])
        elif self._seen:
            raise DataError(*self.problems(files))

    def problems(self, files: Sequence[Path]) -> list[Problem]:
        """The bad rows, `SHOWN` at most, and how many there are."""
        more, count = len(self._seen) - len(self._shown), len(self._seen)
        if count < 2:
            return self._shown
        what = f"and {more:,} more bad rows" if more else f"{count} bad rows"
        hint = "fix them; or ptv2 train --skip-bad leaves bad rows out and counts them"
        return [*self._shown, Problem(_joined(files), what, hint)]

    def _note(self, bad: BadRow) -> None:
        problem = bad.error.problems[0]
        key = hash((problem.where, problem.what))
        if key not in self._seen:
            self._seen.add(key)
            if len(self._shown) < SHOWN:
                self._shown.append(problem)
        if self.skip:
            self.rows.append(bad)


def read_split(
    task: RowReader,
    source: DataSource,
    split: str,
    limit: int | None,
    formats: Sequence[str],
    make_row: Callable[[RawRow], Row],
    columns: tuple[ColumnKey, ColumnKey] = (0, -1),
) -> Split:
    """Read the first `limit` rows of a split with `make_row`, which checks each.

    Rows that are scored together, as the answers to a question, count as one. If the source has
    `skip_bad`, bad rows are left out.

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
            f"{_spelled(formats)}",
        )

    def read(reading: Reading) -> tuple[RowStore, BadRows]:
        bad = BadRows(reading.skip_bad)
        made = bad.good(
            read_files(task, files, formats, columns, reading),
            lambda raw: [SourceRow(make_row(row), row.values) for row in task.expand(raw)],
        )
        rows = RowStore(first_units(task, chain.from_iterable(made), limit))
        bad.check(files, len(rows))
        return rows, bad

    rows, bad = read(source.reading)
    if not rows:
        raise no_rows(files, split)
    same = not bad.rows and _same_by_default(rows, source.reading, read)
    return Split(rows, content_sha256(files) if same else rows_sha256(rows), files, (*bad.rows,))


def no_rows(files: Sequence[Path], split: str) -> DataError:
    """The error of a split whose files hold nothing."""
    what = f"the {split} data is empty"
    return DataError.at(_joined(files), what, "a split needs at least one row")


def _same_by_default(
    rows: RowStore, reading: Reading, read: Callable[[Reading], tuple[RowStore, BadRows]]
) -> bool:
    """Whether the files give the same rows without the config's delimiter and encoding."""
    if reading.delimiter is None and reading.encoding is None:
        return True
    try:
        return read(Reading(skip_bad=reading.skip_bad))[0] == rows
    except DataError:
        return False


def first_units(task: RowReader, rows: Iterable[Row], limit: int | None) -> Iterator[Row]:
    """The first `limit` rows; of a task whose rows form units, all rows of the first units."""
    return iter(rows) if limit is None else _first_units(task, rows, limit)


def _first_units(task: RowReader, rows: Iterable[Row], limit: int) -> Iterator[Row]:
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
    digests = [known_sha256(path) for path in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def rows_sha256(rows: Iterable[Row]) -> str:
    """The sha256 of rows, as a file of one JSON text per line would have it."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def read_files(
    task: RowReader,
    files: Iterable[Path],
    formats: Sequence[str],
    columns: tuple[ColumnKey, ColumnKey] = (0, -1),
    reading: Reading = AS_FOUND,
) -> Iterator[Record]:
    """The rows of all files as read, each in the format that its name and the task's shape say."""
    for path in files:
        yield from _read_file(task, path, formats, columns, reading)


def _read_file(
    task: RowReader,
    path: Path,
    formats: Sequence[str],
    columns: tuple[ColumnKey, ColumnKey],
    reading: Reading,
) -> Iterator[Record]:
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
    if suffix not in _NO_COLUMNS:
        layout = next((name for name in formats if name in COLUMN_LAYOUTS), None)
        if layout is not None:
            return COLUMN_LAYOUTS[layout][1](text)
        if "conll" in formats:
            return read_columns(text, *columns)
    hint = f"it reads {_spelled(formats)}"
    if "conll" in formats:
        hint += (
            "; CoNLL columns are WORD TAG lines, separated by tabs or spaces, with an empty line "
            f"after a sentence, in a file such as {path.stem}.conll"
        )
    raise DataError.at(str(path), f"{task.name} does not read {suffix or 'such'} files", hint)


def _spelled(formats: Sequence[str]) -> str:
    names = {"conll": "CoNLL columns", "squad": "SQuAD .json"}
    names |= {layout: name for layout, (name, _) in COLUMN_LAYOUTS.items()}
    return ", ".join(names.get(name, name) for name in formats)


def _joined(files: Sequence[Path]) -> str:
    return ", ".join(map(str, files))
