"""A person's own questions with choices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, ClassVar, Literal, cast

from pydantic import Field, ValidationInfo, field_validator

from ptv2_cli.config.schema import Section
from ptv2_cli.errors import DataError
from ptv2_cli.tasks.base import DataSource, Row, Split
from ptv2_cli.tasks.choice import CHOICE, Choice
from ptv2_cli.tasks.choices import (
    as_index,
    check_choices,
    check_chosen,
    check_column,
    check_index,
    places,
)
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.formats import Line
from ptv2_cli.tasks.own import (
    Names,
    TableOptions,
    from_train,
    impossible,
    read_labelled,
    require_label,
    table_row,
)
from ptv2_cli.tasks.texts import FORMATS

Form = Literal["index", "text", "column"]
FORMS: tuple[Form, ...] = ("index", "text", "column")
_IN_WORDS = {
    "index": "the index of the right choice, from 0",
    "text": "the right choice's text",
    "column": "the name of the right choice's column",
}


class OwnChoiceOptions(TableOptions):
    """Open keys of `task: text/choice`."""

    text: Names = Field(
        ("text",), description="column of the text, or two: the second stands before each choice"
    )
    choices: Names = Field(
        ("choices",), description="the columns of the choices in order, or one that lists them"
    )
    label_is: Literal["auto", "index", "text", "column"] = Field(
        "auto",
        description="what label holds: the right choice's index from 0, its text, or the name of "
        "its column; auto looks at the train file",
    )

    @field_validator("text")
    @classmethod
    def _not_the_choice(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if CHOICE in value:
            what = f"has the column {CHOICE!r}, which is what templates call a choice's text"
            raise impossible(what, "rename the column in the files")
        return value

    @field_validator("choices")
    @classmethod
    def _apart(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        taken = {*info.data.get("text", ()), info.data.get("label"), "label"}
        if not value or len(set(value)) != len(value) or taken & set(value):
            what = "names a column, or several different ones, that are neither text nor label"
            raise impossible(what, "write choices: [COLUMN, COLUMN]")
        return value


class OwnChoice(Choice):
    """Rows as the file has them, but `label` is an index: other columns stay in the row."""

    options_model: ClassVar[type[Section]] = OwnChoiceOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.options: OwnChoiceOptions = cast(OwnChoiceOptions, options)
        self.label_column = self.options.label
        self._take_columns(self.options.text, self.options.choices)

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """The column that `label:` names."""
        return (self.label_column,)

    @property
    def found(self) -> str | None:
        """What the label column holds; see Task.found."""
        form = self.options.label_is
        return None if form == "auto" else f"{self.label_column}: {_IN_WORDS[form]}"

    def settle(self, source: DataSource) -> OwnChoice:
        """With `label_is` as all rows of the train file have it; see Task.settle."""
        if self.options.label_is != "auto":
            return self
        possible: tuple[Form, ...] = FORMS
        differ: dict[tuple[Form, Form], Line] = {}

        def look(line: Line) -> None:
            nonlocal possible
            require_label(line, self.label_column)
            _, value = table_row(line, self.text, self.label_column)
            choices = check_choices(line, self.choice_columns)
            means = _meanings(value, choices, self.choice_columns)
            possible = _still(line, value, choices, self.choice_columns, possible)
            for one, other in combinations(possible, 2):
                if means[one] != means[other]:
                    differ.setdefault((one, other), line)

        from_train(self, source, FORMATS, look)
        found = next((pair for pair in combinations(possible, 2) if pair in differ), None)
        if found is not None:
            one, other = found
            value = differ[found].values[self.label_column]
            raise DataError.at(
                differ[found].where,
                f"label {value!r} may be the {one} of one choice or the {other} of another, as all "
                "of train's",
                f"say which: task.label_is: {one}, or {other}",
            )
        options = self.options.model_copy(update={"label_is": possible[0]})
        return OwnChoice(self.name, self.definition, options)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read csv, tsv, jsonl or parquet files; see Task.read."""
        return read_labelled(self, self.label_column, source, split, limit)

    def _row(self, line: Line) -> Row:
        row, value = table_row(line, self.text, self.label_column)
        choices = check_choices(line, self.choice_columns)
        if value is not None:
            form = self.options.label_is
            row["label"] = _gold(line, value, choices, self.choice_columns, form)
        return row


def _gold(line: Line, value: Any, choices: list[str], columns: Sequence[str], form: str) -> int:
    if form == "text":
        return check_chosen(line, value, choices)
    if form == "column":
        return check_column(line, value, columns[: len(choices)])
    return check_index(line, value, len(choices))


def _meanings(value: Any, choices: list[str], columns: Sequence[str]) -> dict[Form, int]:
    """The choice that a label stands for in each form that it may have."""
    found: dict[Form, int] = {}
    index, texts = as_index(value), places(value, choices)
    if index is not None and 0 <= index < len(choices):
        found["index"] = index
    if len(texts) == 1:
        found["text"] = texts[0]
    if len(columns) > 1 and value in columns[: len(choices)]:
        found["column"] = columns.index(value)
    return found


def _still(
    line: Line,
    value: Any,
    choices: list[str],
    columns: Sequence[str],
    possible: tuple[Form, ...],
) -> tuple[Form, ...]:
    """Which of the forms a row's label may have.

    Raises:
        DataError: none of them; as the form that all rows before it had.
    """
    may = _meanings(value, choices, columns)
    left = tuple(form for form in possible if form in may)
    if not left:
        # Whole numbers are told as indices, all else as texts, unless earlier rows decide.
        likely = "text" if as_index(value) is None else "index"
        _gold(line, value, choices, columns, likely if likely in possible else possible[0])
    return left
