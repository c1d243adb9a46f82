"""Classification whose input a template writes out of the columns: WiC, WSC and their like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

from pydantic import Field

from ptv2_cli.config.schema import Section, Text
from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.tasks.base import Row
from ptv2_cli.tasks.classify import Classification
from ptv2_cli.tasks.columns import unknown_column
from ptv2_cli.tasks.definition import Definition, PlaceSection
from ptv2_cli.tasks.formats import Line
from ptv2_cli.tasks.named_metrics import NamedMetrics
from ptv2_cli.tasks.nested import inner, is_index


class TemplatedOptions(Section):
    """Open keys of `task:` for inputs that a template of the task's writes."""

    template: Text | None = Field(
        None,
        description="how columns become input, WiC: sentences or word; default: the task's first",
    )


class TemplatedClassificationOptions(NamedMetrics, TemplatedOptions):
    """Open keys of `task:` for such inputs whose rows are scored one by one."""


class Templated(Classification):
    """Rows `{text columns..., label}`; the input is that of one of the task's templates.

    `columns` are the template's input columns, which is what a prompt's template may name.
    """

    options_model: ClassVar[type[Section]] = TemplatedClassificationOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        known = definition.templates
        chosen = cast(TemplatedOptions, options).template or next(iter(known))
        if chosen not in known:
            raise ConfigError.at(
                "task.template",
                f"{name} has no template {chosen!r}",
                f"its templates are {', '.join(known)}",
            )
        self.options = options.model_copy(update={"template": chosen})
        self.patterns = known[chosen]
        self.columns = tuple(self.patterns)

    def texts(self, row: Row) -> Mapping[str, Any]:
        """The input's texts by column, as the template writes them."""
        return {column: pattern.format_map(row) for column, pattern in self.patterns.items()}

    def content(self, row: Row) -> tuple[Any, ...]:
        """The input's texts."""
        return tuple(self.texts(row).values())

    def texts_by_column(self, row: Row) -> dict[str, str]:
        """The texts of which the input is written; see Task.texts_by_column."""
        return {column: str(row[column]) for column in self.definition.text}

    def expand(self, line: Line) -> Iterator[Line]:
        """The line with the values of its nested object as columns; see Task.expand."""
        key = self.definition.nested
        if key is None or key not in line.values:
            yield line
            return
        values = inner(line, line.values, key, "object", "the row")
        rest = {name: value for name, value in line.values.items() if name != key}
        yield replace(line, values={**rest, **values})

    def _row(self, line: Line) -> Row:
        row = super()._row(line)
        for place in self.definition.places:
            check_place(line, place)
        return row


def check_place(line: Line, place: PlaceSection) -> None:
    """See that indices of a row are ones of its text; a row may leave them out.

    Raises:
        DataError: they are not, or one of two is missing.
    """
    names = [place.start] if place.end is None else [place.start, place.end]
    found = [line.values.get(name) for name in names]
    if found == [None] * len(found):
        return
    missing = next((name for name in names if name not in line.values), None)
    if missing is not None:
        raise unknown_column(line.where, missing, line.values)
    text = line.values[place.text]
    # Words are parted by single spaces: two of them have an empty word between them.
    size = len(re.split(r"\s", text)) if place.end is None else len(text)
    first, last = found[0], found[-1]
    if is_index(first) and is_index(last):
        inside = first < size if place.end is None else first < last <= size
        if inside:
            return
    what = ", ".join(f"{name} {at!r}" for name, at in zip(names, found, strict=True))
    unit = "words" if place.end is None else "characters"
    raise DataError.at(
        line.where,
        f"{what} outside of column {place.text!r}, which has {size} {unit}",
        f"{unit} are counted from 0",
    )
