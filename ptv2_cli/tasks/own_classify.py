"""A person's own texts and their classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, ClassVar, cast

from pydantic import Field, field_validator

from ptv2_cli.config.schema import Section
from ptv2_cli.errors import DataError
from ptv2_cli.tasks.base import DataSource, Row, Split
from ptv2_cli.tasks.classify import Classification
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.formats import Line
from ptv2_cli.tasks.named_metrics import NamedMetrics
from ptv2_cli.tasks.own import (
    Names,
    TableOptions,
    as_label,
    check_known,
    from_train,
    impossible,
    in_order,
    read_labelled,
    require_label,
    table_row,
)
from ptv2_cli.tasks.texts import FORMATS

MANY = 50
"""More labels than this, and most of them on one row alone, are no classes."""


class OwnClassificationOptions(NamedMetrics, TableOptions):
    """Open keys of `task: text/classification`."""

    labels: Names | None = Field(
        None, description="the classes in order; default: those of the train file, sorted"
    )

    @field_validator("labels")
    @classmethod
    def _at_least_two(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (len(value) < 2 or len(set(value)) != len(value)):
            raise impossible("names two or more different labels", "write labels: [no, yes]")
        return value


class OwnClassification(Classification):
    """Rows `{text columns..., label, ...}`: other columns of the file stay in the row."""

    options_model: ClassVar[type[Section]] = OwnClassificationOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.options: OwnClassificationOptions = cast(OwnClassificationOptions, options)
        self.columns = self.options.text
        self.labels = self.options.labels or ()
        self.label_column = self.options.label

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """The column that `label:` names."""
        return (self.label_column,)

    def settle(self, source: DataSource) -> OwnClassification:
        """With the labels of the train file, if the config does not give them; see Task.settle."""
        if self.options.labels is not None:
            return self
        labels = from_train(self, source, FORMATS, self._label_read)
        found = set(labels)
        self._check_found(source, found, len(labels))
        options = self.options.model_copy(update={"labels": in_order(found)})
        return OwnClassification(self.name, self.definition, options)

    def _label_read(self, line: Line) -> str:
        require_label(line, self.label_column)
        return as_label(table_row(line, self.columns, self.label_column)[1])

    def _check_found(self, source: DataSource, found: set[str], rows: int) -> None:
        where = ", ".join(map(str, source.files("train")))
        column = self.label_column
        if len(found) == 1:
            what = f"column {column!r} holds {found.pop()!r} in every row: nothing to learn"
            raise DataError.at(where, what, "task.label names the column that tells rows apart")
        if len(found) > MANY and 2 * len(found) > rows:
            what = f"column {column!r} holds {len(found)} different labels in {rows} rows"
            hint = "task.label names the column of the class; for numbers use task: text/regression"
            raise DataError.at(where, what, hint)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read csv, tsv, jsonl or parquet files; see Task.read."""
        written: dict[str, Counter[str]] = {}

        def note(value: Any) -> None:
            if isinstance(value, str):
                written.setdefault(value.strip(), Counter())[value] += 1

        found = read_labelled(self, self.label_column, source, split, limit, note)
        several = [counts for counts in written.values() if len(counts) > 1]
        notes = [
            f"labels of {split} that differ by spaces around them are read as one: "
            + " and ".join(f"{name!r} ({count})" for name, count in counts.most_common())
            for counts in several
        ]
        return replace(found, notes=(*found.notes, *notes))

    def _row(self, line: Line) -> Row:
        row, value = table_row(line, self.columns, self.label_column)
        if value is not None:
            row["label"] = as_label(value)
            check_known(line.where, "label", row["label"], self.labels)
        return row
