"""A file of predictions in the format that its name says: jsonl, json, csv or tsv."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptv2_cli.cells import guarded_cell
from ptv2_cli.errors import InputError
from ptv2_cli.run.partfile import PartFile
from ptv2_cli.run.results import as_line, plain
from ptv2_cli.tasks.base import Prediction
from ptv2_cli.tasks.tables import DELIMITERS

ENDINGS = (".jsonl", ".json", *DELIMITERS)


class RowFile(PartFile):
    """Lines of predictions, a group at a time.

    In a table the columns are those of the first group: the input's, then the answer's. Lists and
    mappings are JSON text in their cell, and no cell is a formula (see `guarded_cell`).
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

    def add(self, rows: Sequence[Prediction]) -> None:
        """Write rows.

        Raises:
            InputError: a row has a column that the table's header, written before, has not.
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

    def _add_cells(self, rows: Sequence[Prediction]) -> None:
        if not self._columns:
            self._columns = _in_order(rows)
            self.head = self._row(self._columns) + "\n"
        for number, row in enumerate(rows, start=self.lines + 1):
            extra = next((key for key in row if key not in self._columns), None)
            if extra is not None:
                raise InputError.at(
                    str(self.path),
                    f"row {number} has a column {extra!r}, which no row of the header's had",
                    f"--output {self.path.stem}.jsonl, where rows may differ",
                )
        self.write(self._row([row.get(name) for name in self._columns]) for row in rows)

    def _row(self, values: Sequence[Any]) -> str:
        out = io.StringIO()
        writer = csv.writer(out, delimiter=DELIMITERS[self._ending], lineterminator="")
        writer.writerow([guarded_cell(_cell(value)) for value in values])
        return out.getvalue()


def _in_order(rows: Sequence[Prediction]) -> list[str]:
    """The columns of all rows; what every row ends in, the answer, comes last."""
    keys = [list(row) for row in rows]
    same = 0
    while same < min(map(len, keys)) and len({names[-1 - same] for names in keys}) == 1:
        same += 1
    first = dict.fromkeys(name for names in keys for name in names[: len(names) - same])
    last = keys[0][len(keys[0]) - same :]
    return [*(name for name in first if name not in last), *last]


def _cell(value: Any) -> Any:
    """A value as a cell: nothing for null, JSON for what is neither text nor number."""
    value = plain(value)
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
