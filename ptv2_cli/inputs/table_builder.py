"""Features that come in parts, put together in one table without a second copy of them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.ragged import Ragged

BOUNDS = frozenset({"starts", "labels.starts", "choices"})
"""Columns of the places where lists begin and end, which go on from part to part."""
PER_TOKEN = frozenset({"types", "slots", "words", "offsets"})
PER_INPUT = frozenset({"mask_at", "cls_at", "truncated", "left_out"})
BLANK = {"mask_at": -1, "labels.known": True}
"""What a column holds for features that lack it; else 0."""


class TableBuilder:
    """Adds tables up; columns grow in place."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._features = 0
        self._inputs = 0

    def add(self, table: FeatureTable, first_row: int) -> None:
        """Add features, whose rows are counted from `first_row` on.

        Raises:
            TypeError: they lack what others have, such as token types.
        """
        if not len(table):
            return
        new = {**table.columns(), "rows": table.rows + np.int32(first_row)}
        if self._features and "labels.values" not in new:
            held = {name: column.values[:1].copy() for name, column in self._columns.items()}
            new |= _no_labels(held, len(table))
        elif self._features and "labels.values" not in self._columns:
            for name, values in _no_labels(new, self._features).items():
                self._columns[name] = _Column(values)
        for name in dict.fromkeys((*self._columns, *new)):
            self._append(name, new.get(name), len(table), len(table.ids))
        self._features += len(table)
        self._inputs += len(table.ids)

    def _append(
        self, name: str, values: npt.NDArray[Any] | None, features: int, inputs: int
    ) -> None:
        column = self._columns.get(name)
        if name in PER_TOKEN | BOUNDS and self._features and (values is None or column is None):
            raise TypeError(f"some features have {name}, others have none")
        of_inputs = name in PER_INPUT
        blank = BLANK.get(name, 0)
        if values is None:
            assert column is not None
            values = np.full(inputs if of_inputs else features, blank, column.dtype)
        if column is None:
            before = self._inputs if of_inputs else self._features
            column = self._columns[name] = _Column(
                values[:1]
                if name in BOUNDS
                else np.full(before, blank, values.dtype)
                if before
                else values[:0]
            )
        column.append(values[1:] + column.last if name in BOUNDS else values)

    def build(self) -> FeatureTable:
        """The table of all that was added; nothing can be added afterwards."""
        if not self._columns:
            return FeatureTable(Ragged.empty_lists(0), np.empty(0, np.int32))
        return FeatureTable.from_columns(
            {name: column.values for name, column in self._columns.items()}
        )


def _no_labels(columns: Mapping[str, npt.NDArray[Any]], count: int) -> dict[str, npt.NDArray[Any]]:
    """The columns of features without a label where others have those of `columns`."""
    values = columns.get("labels.values")
    if values is None:
        return {}
    known = np.zeros(count, np.bool_)
    if "labels.starts" in columns:
        starts = np.zeros(count + 1, np.int64)
        return {"labels.values": values[:0], "labels.starts": starts, "labels.known": known}
    blank = np.zeros((count, *values.shape[1:]), values.dtype)
    return {"labels.values": blank, "labels.known": known}


CODES = {np.dtype(np.bool_): "B", np.dtype(np.uint8): "B", np.dtype(np.int32): "i"}
CODES |= {np.dtype(np.int64): "q", np.dtype(np.float64): "d"}


class _Column:
    """An array that grows by a sixteenth at a time, without a copy of it beside it."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.dtype = values.dtype
        self._shape = values.shape[1:]
        self._held = array(CODES[self.dtype], values.tobytes())

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add values at the end; of two types of number the wider holds all."""
        wider = np.promote_types(self.dtype, values.dtype)
        if wider != self.dtype:
            self._held = array(CODES[wider], self.values.astype(wider).tobytes())
            self.dtype = wider
        self._held.frombytes(values.astype(self.dtype).tobytes())

    @property
    def last(self) -> int:
        """Its last value."""
        return int(self._held[-1])

    @property
    def values(self) -> npt.NDArray[Any]:
        """All values, not copied."""
        flat = np.frombuffer(self._held, self.dtype) if self._held else np.empty(0, self.dtype)
        return flat.reshape(-1, *self._shape)
