"""A file of predictions in the format that its name says: jsonl, json, csv or tsv."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from ptv2_cli.data.tabular import DELIMITERS
from ptv2_cli.errors import InputError
from ptv2_cli.files import no_link
from ptv2_cli.runs.directory import writing_at
from ptv2_cli.runs.results import as_line, plain
from ptv2_cli.safe_text import guarded_cell

ENDINGS = (".jsonl", ".json", *DELIMITERS)


class PartFile:
    """Lines to `FILE.part`, renamed to `FILE` by `finish`; whole lines at any time between.

    Raises:
        InputError: the folder is missing or the file cannot be written.
        MachineError: the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.lines = 0
        """Of rows; `head` and `tail` are none."""
        self.head = ""
        """What stands before the first line."""
        self.tail = ""
        """What stands behind the last line."""
        self._file: BinaryIO | None = None

    def write(self, lines: Iterable[str]) -> None:
        """Add lines, given without their ends; the first call makes the file."""
        data = [f"{line}\n" for line in lines]
        with self._guard():
            if self._file is None:
                # Unbuffered: one call writes a group of lines, so that a kill cuts none in two.
                self._file = open(self.part, "wb", buffering=0, opener=no_link)  # noqa: SIM115
                _write_all(self._file, self.head.encode())
            _write_all(self._file, "".join(data).encode())
        self.lines += len(data)

    def finish(self) -> None:
        """Give the file its name; nothing was written: an older file of that name goes."""
        if self._file is None:
            self.path.unlink(missing_ok=True)
            return
        with self._guard():
            _write_all(self._file, self.tail.encode())
            os.fsync(self._file.fileno())
            self._file.close()
            self.part.replace(self.path)

    def stop(self) -> None:
        """Leave an unfinished part as it is, unless it is empty."""
        if self._file is not None:
            self._file.close()
            if not self.lines:
                self.part.unlink(missing_ok=True)

    @property
    def kept(self) -> bool:
        """Whether lines are left in a part that was not finished."""
        return bool(self.lines) and self.part.exists()

    def _guard(self) -> AbstractContextManager[None]:
        full = f"free some space and run it again; {self.part} holds {self.lines:,} lines"
        return writing_at(self.path, "give another place to write to", full, InputError)


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


PREFIX = "prediction"
"""What the names of a table's columns begin with that a run predicted: `prediction.label`."""


class RowFile(PartFile):
    """Lines of predictions, a group at a time.

    In a table the columns are those of the first group: the row's by their own names, then those
    of the prediction as `prediction.KEY`, or `prediction` where it is a number. Lists and mappings
    are JSON text in their cell, and no cell is a formula (see `guarded_cell`).
    """

    def __init__(self, path: Path) -> None:
        """Take the path.

        Raises:
            InputError: its name ends in none of `ENDINGS`.
        """
        super().__init__(path)
        self._ending = path.suffix.lower()
        if self._ending not in ENDINGS:
            what = f"{path.suffix} says no format" if path.suffix else "the name says no format"
            hint = f"--output {path.stem}.jsonl; or .json, .csv or .tsv"
            raise InputError.at(f"--output {path}", what, hint)
        self._columns: list[str] = []
        if self._ending == ".json":
            self.head, self.tail = "[\n", "]\n"

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows.

        Raises:
            InputError: a row of a table has a column that the header, written before, has not,
                or one that is named as a column of the prediction.
        """
        if not rows:
            return
        if self._ending == ".jsonl":
            self.write(map(as_line, rows))
        elif self._ending == ".json":
            first = self.lines == 0
            lines = map(as_line, rows)
            self.write(line if first and not at else f",{line}" for at, line in enumerate(lines))
        else:
            self._add_cells(rows)

    def _add_cells(self, rows: Sequence[Mapping[str, Any]]) -> None:
        cells = [self._flat(line) for line in rows]
        if not self._columns:
            self._columns = _in_order(rows)
            self.head = self._row(self._columns) + "\n"
        for number, row in enumerate(cells, start=self.lines + 1):
            extra = next((key for key in row if key not in self._columns), None)
            if extra is not None:
                raise InputError.at(
                    str(self.path),
                    f"row {number} has a column {extra!r}, which no row of the header's had",
                    f"--output {self.path.stem}.jsonl, where rows may differ",
                )
        self.write(self._row([row.get(name) for name in self._columns]) for row in cells)

    def _flat(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """The cells of a line by column."""
        answer = _of_prediction(line)
        twice = next((name for name in answer if name in line["row"]), None)
        if twice is not None:
            raise InputError.at(
                str(self.path),
                f"the rows have a column {twice!r}, which is what the prediction's is called",
                f"--output {self.path.stem}.jsonl, which keeps them apart; or rename the column",
            )
        return {**line["row"], **answer}

    def _row(self, values: Sequence[Any]) -> str:
        out = io.StringIO()
        writer = csv.writer(out, delimiter=DELIMITERS[self._ending], lineterminator="")
        writer.writerow([guarded_cell(_cell(value)) for value in values])
        return out.getvalue()


def _in_order(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of all rows, then those of their predictions."""
    rows = dict.fromkeys(name for line in lines for name in line["row"])
    return [*rows, *dict.fromkeys(name for line in lines for name in _of_prediction(line))]


def _of_prediction(line: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a line's prediction by column."""
    prediction = line["prediction"]
    if not isinstance(prediction, Mapping):
        return {PREFIX: prediction}
    return {f"{PREFIX}.{key}": value for key, value in prediction.items()}


def _cell(value: Any) -> Any:
    """A value as a cell: nothing for null, JSON for what is neither text nor number."""
    value = plain(value)
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def check_output(path: Path, source: Path | None) -> None:
    """See that a file can be written at `path`, before hours are spent on its content.

    Args:
        path: the file that will be written.
        source: a file that is read meanwhile, which it must not replace.

    Raises:
        InputError: no such folder, a folder itself, or the source.
    """
    folder = path.parent
    if not folder.is_dir():
        make = f"mkdir -p {shlex.quote(str(folder))}"
        raise InputError.at(str(path), f"there is no folder {folder}", make)
    if path.is_dir():
        raise InputError.at(str(path), "is a folder", f"--output {path / 'predictions.jsonl'}")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise InputError.at(
            str(path), "is the input, which it would replace", "--output ANOTHER_FILE"
        )
    if not os.access(folder, os.W_OK):
        raise InputError.at(
            str(path), f"{folder} cannot be written", "--output FILE in a folder of yours"
        )
