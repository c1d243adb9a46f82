"""What a person's own tables share: which columns, labels that are found, rows named by line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from ptv2_cli.config.fields import Text, impossible
from ptv2_cli.config.schema import Section
from ptv2_cli.data.conll import ColumnKey
from ptv2_cli.data.formats import RawRow, unknown_column
from ptv2_cli.data.readers import BadRows, no_rows, read_files, read_split
from ptv2_cli.data.row_checks import check_text
from ptv2_cli.data.rows import DataSource, Row, Split
from ptv2_cli.errors import DataError
from ptv2_cli.scoring.named_metrics import ALWAYS, NAMED
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.texts import FORMATS

T = TypeVar("T")
LABELLED = frozenset({"train", "validation"})
"""Splits of which every row must have its gold answer; a test file may go without."""


def _listed(value: Any) -> Any:
    """A bare name as the list of it."""
    return value if isinstance(value, list | tuple | dict) or value is None else [value]


_NAME = {"type": ["string", "number", "boolean"]}
Names = Annotated[
    tuple[Text, ...],
    BeforeValidator(_listed),
    Field(strict=False),
    WithJsonSchema({"anyOf": [_NAME, {"type": "array", "items": _NAME}]}),
]


class TableOptions(Section):
    """Open keys of `task:` for rows of a table: which columns hold what."""

    text: Names = Field(("text",), description="column of the text, or [COLUMN, COLUMN] of a pair")
    label: Text = Field("label", description="column of the gold answer", validate_default=True)

    @field_validator("text")
    @classmethod
    def _one_or_two(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not 1 <= len(value) <= 2 or len(set(value)) != len(value):
            raise impossible("names one column or two different ones", "write text: [COLUMN]")
        return value

    @field_validator("label")
    @classmethod
    def _no_text(cls, value: str, info: ValidationInfo) -> str:
        if value in info.data.get("text", ()):
            what = f"the gold answer's column {value!r} is a column of task.text too"
            raise impossible(what, "write label: the column of the gold answer")
        return value


class NamedMetrics(Section):
    """The open key of `task:` that asks for further metrics of classes."""

    metrics: Names | None = Field(
        None,
        description=f"further metrics to give: {', '.join(NAMED)}; selection.metric adds its own",
    )

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if name not in {*NAMED, *ALWAYS}:
                near = difflib.get_close_matches(name, NAMED, n=1)
                guess = f"did you mean {near[0]}? " if near else ""
                hint = f"{guess}metrics by name: {', '.join(NAMED)}"
                raise impossible(f"has the unknown metric {name!r}", hint)
        # None and an empty list are one run.
        return tuple(dict.fromkeys(value)) if value else None


def gold_key(label: str, inputs: Sequence[str]) -> str:
    """What rows call their gold answer: `label`, unless that is a column that the model reads.

    The answer then has the name of its own column, `label`.
    """
    return label if "label" in inputs else "label"


def table_row(line: RawRow, columns: Sequence[str], label: str, key: str) -> tuple[Row, Any]:
    """A checked row without its gold answer, and that answer as read (None: unlabelled).

    Args:
        line: the row as read.
        columns: its text columns.
        label: the column of the gold answer.
        key: what the row will call it, see `gold_key`.

    Raises:
        DataError: a text column is missing, holds no text or an empty one.
    """
    for column in columns:
        if not check_text(line, column).strip():
            raise DataError.at(
                line.where, f"column {column!r} is empty", "write its text, or delete the row"
            )
    row = dict(line.values)
    value = row.pop(label, None)
    row.pop(key, None)  # another column of this name would read as the gold answer
    if isinstance(value, str):
        value = value.strip() or None
    return row, value


def read_labelled(
    task: Task,
    column: str,
    source: DataSource,
    split: str,
    limit: int | None,
    note: Callable[[Any], None] = lambda value: None,
) -> Split:
    """A split of a table; every row of train and validation has its gold answer.

    `note` is given the gold answer of each row as the file has it.

    Raises:
        DataError: see `read_split` and `require_label`.
    """

    def make(line: RawRow) -> Row:
        if split in LABELLED:
            require_label(line, column)
        note(line.values.get(column))
        return task._row(line)

    return read_split(task, source, split, limit, FORMATS, make)


def require_label(line: RawRow, column: str) -> None:
    """See that a row of train or validation has its gold answer.

    Raises:
        DataError: no such column, or nothing in it.
    """
    if column not in line.values:
        raise unknown_column(line.at(line.header), column, line.values)
    value = line.values[column]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError.at(
            line.where, f"column {column!r} is empty: no label", "label the row, or delete it"
        )


def from_train(
    task: Task,
    source: DataSource,
    formats: Sequence[str],
    make: Callable[[RawRow], T],
    columns: tuple[ColumnKey, ColumnKey] = (0, -1),
) -> list[T]:
    """What `make` gives of each row of the train files as read, whatever `limit` says.

    Raises:
        DataError: there are no rows, or bad ones that are not to be left out.
    """
    files = source.files("train")
    if not files:
        raise DataError.at(
            source.describe("train"), "no train data", "write task: {train: FILE}, or data: FOLDER"
        )
    bad = BadRows(source.reading.skip_bad)
    records = read_files(task, files, formats, columns, source.reading)
    made = list(bad.good(records, make))
    bad.check(files, made)
    if not made:
        raise no_rows(files, "train")
    return made


def as_label(value: Any) -> str:
    """A label as text: JSON's true and false as such, numbers as they are written."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels sorted: whole numbers by value, all others as text."""
    found = set(labels)
    # Python reads no int of 5,000 digits; a label of twenty is a text.
    numbers = all(label.removeprefix("-").isdecimal() and len(label) < 20 for label in found)
    return tuple(sorted(found, key=int) if numbers else sorted(found))


def check_known(where: str, what: str, value: str, known: Sequence[str]) -> None:
    """See that a label (or tag type) is one that the task has.

    Raises:
        DataError: it is not.
    """
    if value in known:
        return
    near = difflib.get_close_matches(value, known, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    raise DataError.at(
        where,
        f"{what} {value!r} is none of the task's, which are those of train unless task.labels "
        "says otherwise",
        f"{guess}{what}s of this task: {shown}",
    )
