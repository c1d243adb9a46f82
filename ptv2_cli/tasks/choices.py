"""The choices of a row and the one that is right, as files have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.columns import unknown_column
from ptv2_cli.tasks.formats import Line


def choices_of(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """The texts of the choices of a checked row: those of one list, or those of the columns.

    Of several columns the last may be empty: a question with fewer choices than others.
    """
    if len(columns) == 1:
        return list(row[columns[0]])
    return [row[column] for column in columns if not _empty(row.get(column))]


def check_choices(line: Line, columns: Sequence[str]) -> list[str]:
    """The texts of the choices of a row as read.

    Raises:
        DataError: a missing column, something else than text, an empty choice before another, or
            fewer than two.
    """
    for column in columns:
        # A line of jsonl may leave out the columns of choices that it has not.
        if column not in line.values and (len(columns) == 1 or column in columns[:2]):
            raise unknown_column(line.at(line.header), column, line.values)
    found = line.values[columns[0]] if len(columns) == 1 else _cells(line, columns)
    if not isinstance(found, list):
        raise DataError.at(
            line.where,
            f"column {columns[0]!r} holds {found!r}: no list of choices",
            "with a column for each choice write task.choices: [COLUMN, COLUMN]",
        )
    for index, text in enumerate(found):
        if not isinstance(text, str):
            what = f"choice {index} is {text!r}"
            raise DataError.at(line.where, what, "choices must be texts in quotes")
        if not text.strip():
            what = f"choice {index} is empty"
            raise DataError.at(line.where, what, "write its text, or delete it; 0 is the first")
    if len(found) < 2:
        raise DataError.at(
            line.where,
            f"{len(found)} choice{'' if len(found) == 1 else 's'}",
            "a question needs two or more to choose from: complete the row, or delete it",
        )
    return found


def check_index(line: Line, value: Any, count: int) -> int:
    """The index that a label is, from 0, into the `count` choices of a row.

    Raises:
        DataError: it is no whole number, or the row has no such choice.
    """
    hint = f"the first choice is 0, the last of this row is {count - 1}"
    index = as_index(value)
    if index is None:
        raise DataError.at(line.where, f"label {value!r} is no index of a choice", hint)
    if not 0 <= index < count:
        raise DataError.at(line.where, f"label {value!r} in a row of {count} choices", hint)
    return index


def as_index(value: Any) -> int | None:
    """The whole number that a label is or, in tables, spells; None if it is none."""
    if isinstance(value, str):
        text = value.strip()
        # No row has a choice of ten digits, and Python reads no int of 5,000.
        return int(text) if text.removeprefix("-").isdecimal() and len(text) < 10 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def check_chosen(line: Line, value: Any, choices: Sequence[str]) -> int:
    """The index of the choice whose text a label is, spaces around it aside.

    Raises:
        DataError: no choice of the row has that text, or two have it.
    """
    found = places(value, choices)
    if len(found) == 1:
        return found[0]
    shown = ", ".join(map(repr, choices))
    if found:
        what = f"label {value!r} is the text of {len(found)} choices: {shown}"
        hint = "say which by its index, from 0, with task.label_is: index; or delete the row"
    else:
        what = f"label {value!r} is the text of none of the choices: {shown}"
        hint = "write it as the choice is written"
    raise DataError.at(line.where, what, hint)


def check_column(line: Line, value: Any, columns: Sequence[str]) -> int:
    """The index of the choice whose column a label names; `columns`: those that the row fills.

    Raises:
        DataError: it names none of them.
    """
    if value in columns:
        return columns.index(value)
    raise DataError.at(
        line.where,
        f"label {value!r} is no column of a choice of this row",
        f"its columns are {', '.join(columns)}",
    )


def places(value: Any, choices: Sequence[str]) -> list[int]:
    """Where a label stands among the choices as a text."""
    if not isinstance(value, str):
        return []
    wanted = value.strip()
    return [index for index, text in enumerate(choices) if text.strip() == wanted]


def _cells(line: Line, columns: Sequence[str]) -> list[Any]:
    """The values of several columns, without the empty ones at the end."""
    cells = [line.values.get(column) for column in columns]
    while cells and _empty(cells[-1]):
        cells.pop()
    return ["" if cell is None else cell for cell in cells]


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())
