"""Tasks on the user's own tables: which columns hold what, and what the train file tells."""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, TypeVar, cast

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from ptv2_cli.config.fields import Text, impossible
from ptv2_cli.config.section import Section
from ptv2_cli.data.conll import ColumnKey
from ptv2_cli.data.formats import RawRow, unknown_column
from ptv2_cli.data.readers import BadRows, no_rows, read_files, read_split
from ptv2_cli.data.row_checks import check_text
from ptv2_cli.data.rows import DataSource, Row, Split
from ptv2_cli.errors import DataError
from ptv2_cli.scoring.entities import SPELLINGS
from ptv2_cli.scoring.metrics import ALWAYS, NAMED
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition
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


class UserTable(Task):
    """A task on tables whose columns the config names; a subclass defines `gold_of`.

    Mix it in before the class that encodes and scores: `class Mine(UserTable, TextTask)`. Its
    `options_model` extends TableOptions.

    A row has the columns of its file, but the gold answer under `gold_key`. That is `label`, unless
    the model reads a column of that name: then it is the answer's own column.
    """

    options: TableOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.options = cast(TableOptions, options)
        self.text = self.options.text
        self.columns = self.text
        self.label_column = self.options.label
        self.gold_key = self.label_column if "label" in self.inputs else "label"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that the model reads."""
        return self.text

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """The column that `label:` names."""
        return (self.label_column,)

    @abstractmethod
    def gold_of(self, line: RawRow, value: Any) -> Any:
        """The gold answer that a cell holds; None for None.

        Raises:
            DataError: it is no answer of this task.
        """

    def _row(self, line: RawRow) -> Row:
        self._check_texts(line)
        row = dict(line.values)
        row.pop(self.gold_key, None)
        gold = self.gold_of(line, self._cell(line))
        row.pop(self.label_column, None)
        return row if gold is None else {**row, self.gold_key: gold}

    def _check_texts(self, line: RawRow) -> None:
        for column in self.text:
            if not check_text(line, column).strip():
                what = f"column {column!r} is empty"
                raise DataError.at(line.where, what, "write its text, or delete the row")

    def _cell(self, line: RawRow) -> Any:
        """What the column of the gold answer holds; None where it is empty."""
        value = line.values.get(self.label_column)
        return (value.strip() or None) if isinstance(value, str) else value

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read a table; every row of train and validation has its gold answer; see Task.read."""

        def make(line: RawRow) -> Row:
            if split in LABELLED:
                require_label(line, self.label_column)
            return self._row(line)

        return read_split(self, source, split, limit, FORMATS, make)

    def train_values(self, source: DataSource, look: Callable[[RawRow, Any], T]) -> Iterator[T]:
        """What `look` gives for each train row and its gold answer as read; see `from_train`."""

        def checked(line: RawRow) -> T:
            require_label(line, self.label_column)
            self._check_texts(line)
            return look(line, self._cell(line))

        return from_train(self, source, FORMATS, checked)


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
) -> Iterator[T]:
    """What `make` gives of each row of the train files as read, whatever `limit` says.

    Raises:
        DataError: there are no rows, or, after the last, bad ones that are not to be left out.
    """
    files = source.files("train")
    if not files:
        raise DataError.at(
            source.describe("train"), "no train data", "write task: {train: FILE}, or data: FOLDER"
        )
    bad = BadRows(source.reading.skip_bad)
    records = read_files(task, files, formats, columns, source.reading)
    count = 0
    for made in bad.good(records, make):
        yield made
        count += 1
    bad.check(files, count)
    if not count:
        raise no_rows(files, "train")


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


def check_tags(line: RawRow, tags: list[str] | None) -> list[str]:
    """The tags, seen to be O or to have a prefix that a scheme knows.

    Raises:
        DataError: no tags, or a tag of no scheme.
    """
    if tags is None:
        raise DataError.at(line.where, "no tags", "every word of a train sentence has one")
    for index, tag in enumerate(tags):
        if tag != "O" and (tag[:1] not in SPELLINGS or tag[1:2] != "-" or not tag[2:]):
            number = line.numbers[index] if line.numbers else None
            raise DataError.at(
                line.at(number),
                f"tag {tag!r} is no tag of BIO, IOB1 or BIOES",
                "tags are O, B-TYPE, I-TYPE, E-TYPE, S-TYPE; task.tag_column says where they stand",
            )
    return tags
