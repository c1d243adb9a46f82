"""Questions with choices, one of which is right: COPA and its like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from ptv2_cli.config.fields import impossible
from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow, unknown_column
from ptv2_cli.data.readers import read_split
from ptv2_cli.data.row_checks import check_label, check_text
from ptv2_cli.data.rows import DataSource, Row, Split
from ptv2_cli.errors import DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import Kind
from ptv2_cli.scoring.resampling import class_detail, mean_error, ratio
from ptv2_cli.scoring.scores import Array, Prediction, Scores, Statistics
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.texts import FORMATS, encode_texts
from ptv2_cli.tasks.user_data import (
    Names,
    TableOptions,
    UserTable,
)

CHOICE = "choice"
"""The column that a choice's own text is in where inputs are made: `{choice}` of a template."""


class ChoiceOptions(Section):
    """A benchmark of choices has no option of its own."""


class Choice(Task):
    """Rows `{text columns..., columns of the choices, label: INDEX}`, the first choice being 0.

    Each choice is one input: the pair (text; choice). Of two text columns the second stands
    before each choice: (text; text choice). A template has every column by its name.
    """

    kind: ClassVar[Kind] = "choice"
    unweighted = "the places of choices are no classes"
    options_model: ClassVar[type[Section]] = ChoiceOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.label_column = definition.label
        self._take_columns(definition.text, definition.choices)

    def _take_columns(self, text: tuple[str, ...], choices: tuple[str, ...]) -> None:
        self.text = text
        self.choice_columns = choices
        self.columns = (*text, CHOICE)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read csv, tsv, jsonl or parquet files; see Task.read."""
        return read_split(self, source, split, limit, FORMATS, self._row)

    def _row(self, line: RawRow) -> Row:
        for column in self.text:
            check_text(line, column)
        if self.definition.joiner is not None:
            joiner = self.definition.joiner
            check_label(line, check_text(line, joiner.column), tuple(joiner.words))
        choices = check_choices(line, self.choice_columns)
        row = dict(line.values)
        value = row.pop(self.label_column, None)
        if value is not None:
            value = self.definition.values.get(str(value), value)
            row["label"] = check_index(line, value, choices, self.choice_columns)
        return row

    def content(self, row: Row) -> tuple[Any, ...]:
        """The texts and all choices."""
        texts = (row.get(column) for column in self.text)
        return (*texts, *choices_of(row, self.choice_columns))

    def texts_by_column(self, row: Row) -> dict[str, str]:
        """The texts without the choices; see Task.texts_by_column."""
        return {column: str(row[column]) for column in self.text}

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> FeatureTable:
        """One feature per row, with an input for each of its choices; see Task.encode."""
        pair = encoder.template is None
        columns = (self.columns[0], CHOICE) if pair else self.columns
        choices = [choices_of(row, self.choice_columns) for row in rows]
        texts = [
            self._texts(row, choice, pair)
            for row, texts_of_row in zip(rows, choices, strict=True)
            for choice in texts_of_row
        ]
        table = encode_texts(columns, texts, encoder).as_choices(list(map(len, choices)))
        return table.labelled([self.gold(row) for row in rows])

    def _texts(self, row: Row, choice: str, pair: bool) -> dict[str, str]:
        """The texts of one input by column."""
        texts = {column: str(row[column]) for column in self.text}
        if self.definition.joiner is not None:
            joiner = self.definition.joiner
            texts[self.text[-1]] += f" {joiner.words[row[joiner.column]]}"
        before = list(texts.values())[1:] if pair else []
        return {**texts, CHOICE: " ".join([*before, choice])}

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """The index of the most probable choice (the first of equals) and all probabilities."""
        lines: list[Prediction] = [{} for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            probabilities = output["probabilities"]
            lines[feature.row] = {
                "label": int(np.argmax(probabilities)),
                "probabilities": {str(index): float(p) for index, p in enumerate(probabilities)},
            }
        return lines

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """How often the right choice stands at each place; see Task.tally."""
        return Counter(f"choice {self.gold(row)}" for row in rows if self.gold_key in row)

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, 2]: whether the row is right, and 1."""
        pairs = zip(rows, predictions, strict=True)
        right = [float(self.gold(row) == line["label"]) for row, line in pairs]
        return np.stack([np.array(right), np.ones(len(rows))], axis=1)

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """accuracy from summed rows [..., 2]."""
        return {"accuracy": ratio(totals[..., 0], totals[..., 1])}

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """accuracy; by index, and how often which stood for which, under detail."""
        from ptv2_cli.scoring.evaluate_metrics import Accuracy

        self.require_gold(rows)
        guess = [line["label"] for line in predictions]
        truth = [self.gold(row) for row in rows]
        metrics = Accuracy().compute(predictions=guess, references=truth)
        error = mean_error(np.equal(guess, truth).astype(float))
        return self.scores(metrics, {"accuracy": error}, _detail(guess, truth))

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """The index that is most often right in train, among those that the row has."""
        counts = Counter(self.gold(row) for row in train if self.gold_key in row)
        if not counts:
            return None
        sizes = [len(choices_of(row, self.choice_columns)) for row in rows]
        return [_most(counts, size) for size in sizes]


def _most(counts: Mapping[int, int], size: int) -> Prediction:
    shares = np.array([counts.get(index, 0) for index in range(size)], dtype=float)
    shares = shares / shares.sum() if shares.any() else np.full(size, 1 / size)
    probabilities = {str(index): float(share) for index, share in enumerate(shares)}
    return {"label": int(np.argmax(shares)), "probabilities": probabilities}


def _detail(guess: Sequence[int], truth: Sequence[int]) -> dict[str, Any]:
    """Scores and confusion of the places that choices stand at: a model should favour none."""
    size = max(*guess, *truth) + 1
    confusion = np.zeros((size, size))
    np.add.at(confusion, (np.asarray(truth), np.asarray(guess)), 1)
    choices, cells = class_detail([str(index) for index in range(size)], confusion)
    return {"choices": choices, "confusion": cells}


def choices_of(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """The texts of the choices of a checked row: those of one list, or those of the columns.

    Of several columns the last may be empty: a question with fewer choices than others.
    """
    if len(columns) == 1:
        return list(row[columns[0]])
    return [row[column] for column in columns if not _empty(row.get(column))]


def check_choices(line: RawRow, columns: Sequence[str]) -> list[str]:
    """The texts of the choices of a row as read.

    Raises:
        DataError: a missing column, something else than text, an empty choice before another, or
            fewer than two.
    """
    for column in columns:
        # A line of jsonl may leave out the columns of choices that it has not.
        if column not in line.values and (len(columns) == 1 or column in columns[:2]):
            raise unknown_column(line.at(line.header), column, line.values)
    choices = line.values[columns[0]] if len(columns) == 1 else _cells(line, columns)
    if not isinstance(choices, list):
        raise DataError.at(
            line.where,
            f"column {columns[0]!r} holds {choices!r}: no list of choices",
            "with a column for each choice write task.choices: [COLUMN, COLUMN]",
        )
    for index, text in enumerate(choices):
        if not isinstance(text, str):
            what = f"choice {index} is {text!r}"
            raise DataError.at(line.where, what, "choices must be texts in quotes")
        if not text.strip():
            what = f"choice {index} is empty"
            raise DataError.at(line.where, what, "write its text, or delete it; 0 is the first")
    if len(choices) < 2:
        raise DataError.at(
            line.where,
            f"{len(choices)} choice{'' if len(choices) == 1 else 's'}",
            "a question needs two or more to choose from: complete the row, or delete it",
        )
    return choices


def check_index(line: RawRow, value: Any, choices: Sequence[str], columns: Sequence[str]) -> int:
    """The index that a label is, from 0, into the choices of a row.

    Raises:
        DataError: it is no whole number, or the row has no such choice.
    """
    hint = f"the first choice is 0, the last of this row is {len(choices) - 1}"
    index = as_index(value)
    if index is None:
        raise DataError.at(line.where, f"label {value!r} is no index of a choice", hint)
    if not 0 <= index < len(choices):
        raise DataError.at(line.where, f"label {value!r} in a row of {len(choices)} choices", hint)
    return index


def check_chosen(line: RawRow, value: Any, choices: Sequence[str], columns: Sequence[str]) -> int:
    """The index of the choice whose text a label is, spaces around it aside.

    Raises:
        DataError: no choice of the row has that text, or two have it.
    """
    matches = places(value, choices)
    if len(matches) == 1:
        return matches[0]
    shown = ", ".join(map(repr, choices))
    if matches:
        what = f"label {value!r} is the text of {len(matches)} choices: {shown}"
        hint = "say which by its index, from 0, with task.label_is: index; or delete the row"
    else:
        what = f"label {value!r} is the text of none of the choices: {shown}"
        hint = "write it as the choice is written"
    raise DataError.at(line.where, what, hint)


def check_column(line: RawRow, value: Any, choices: Sequence[str], columns: Sequence[str]) -> int:
    """The index of the choice whose column a label names.

    Raises:
        DataError: it names none of those that the row fills, or one column lists the choices.
    """
    filled = columns[: len(choices)] if len(columns) > 1 else ()
    if value in filled:
        return filled.index(value)
    raise DataError.at(
        line.where,
        f"label {value!r} is no column of a choice of this row",
        f"its columns are {', '.join(filled)}",
    )


def as_index(value: Any) -> int | None:
    """The whole number that a label is or, in tables, spells; None if it is none."""
    if isinstance(value, str):
        text = value.strip()
        # No row has a choice of ten digits, and Python reads no int of 5,000.
        return int(text) if text.removeprefix("-").isdecimal() and len(text) < 10 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def places(value: Any, choices: Sequence[str]) -> list[int]:
    """Where a label stands among the choices as a text."""
    if not isinstance(value, str):
        return []
    wanted = value.strip()
    return [index for index, text in enumerate(choices) if text.strip() == wanted]


def _cells(line: RawRow, columns: Sequence[str]) -> list[Any]:
    """The values of several columns, without the empty ones at the end."""
    cells = [line.values.get(column) for column in columns]
    while cells and _empty(cells[-1]):
        cells.pop()
    return ["" if cell is None else cell for cell in cells]


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


Form = Literal["index", "text", "column"]
FORMS: dict[Form, Callable[[RawRow, Any, Sequence[str], Sequence[str]], int]] = {
    "index": check_index,
    "text": check_chosen,
    "column": check_column,
}
"""What a label may be -> what reads it."""
_IN_WORDS: dict[str, str] = {
    "index": "the index of the right choice, from 0",
    "text": "the right choice's text",
    "column": "the name of the right choice's column",
}


class UserChoiceOptions(TableOptions):
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
        taken = {*info.data.get("text", ()), info.data.get("label")}
        if not value or len(set(value)) != len(value) or taken & set(value):
            what = "names a column, or several different ones, that are neither text nor label"
            raise impossible(what, "write choices: [COLUMN, COLUMN]")
        return value


class UserChoice(UserTable, Choice):
    """Questions of the user's own table; what its label column holds is found in train."""

    options_model: ClassVar[type[Section]] = UserChoiceOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self._take_columns(self.text, cast(UserChoiceOptions, options).choices)
        self.label_is = cast(UserChoiceOptions, options).label_is

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the text and of the choices."""
        return (*self.text, *cast(UserChoiceOptions, self.options).choices)

    @property
    def found(self) -> str | None:
        """What the label column holds; see Task.found."""
        if self.label_is == "auto":
            return None
        return f"{self.label_column}: {_IN_WORDS[self.label_is]}"

    def settle(self, source: DataSource) -> Task:
        """With `label_is` as all rows of the train file have it; see Task.settle."""
        if self.label_is != "auto":
            return self
        possible = tuple(FORMS)
        differ: dict[tuple[Form, Form], RawRow] = {}

        def look(line: RawRow, value: Any) -> None:
            nonlocal possible
            choices = check_choices(line, self.choice_columns)
            means = _meanings(line, value, choices, self.choice_columns)
            left = tuple(form for form in possible if form in means)
            if not left:
                # Say what is wrong with it as an index if it is a whole number, else as a text,
                # unless earlier rows rule that out.
                likely: Form = "text" if as_index(value) is None else "index"
                read = FORMS[likely if likely in possible else possible[0]]
                read(line, value, choices, self.choice_columns)
            possible = left
            for one, other in combinations(possible, 2):
                if means[one] != means[other]:
                    differ.setdefault((one, other), line)

        for _ in self.train_values(source, look):
            pass
        pair = next((pair for pair in combinations(possible, 2) if pair in differ), None)
        if pair is not None:
            one, other = pair
            value = differ[pair].values[self.label_column]
            raise DataError.at(
                differ[pair].where,
                f"label {value!r} may be the {one} of one choice or the {other} of another, as all "
                "of train's",
                f"say which: task.label_is: {one}, or {other}",
            )
        return self.with_options(label_is=possible[0])

    def gold_of(self, line: RawRow, value: Any) -> int | None:
        """The index of the right choice; see UserTable.gold_of."""
        choices = check_choices(line, self.choice_columns)
        if value is None:
            return None
        read = check_index if self.label_is == "auto" else FORMS[self.label_is]
        return read(line, value, choices, self.choice_columns)


def _meanings(
    line: RawRow, value: Any, choices: Sequence[str], columns: Sequence[str]
) -> dict[Form, int]:
    """The choice that a label stands for in each form that it may have."""
    meanings: dict[Form, int] = {}
    for form, read in FORMS.items():
        with suppress(DataError):
            meanings[form] = read(line, value, choices, columns)
    return meanings
