"""Rows in one buffer: each comes back as it was put in, and takes little more than its text."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptv2_cli.data.row_store import RowStore
from ptv2_cli.data.rows import Row, SourceRow
from ptv2_cli.data.source import FolderSource
from ptv2_cli.tasks.catalog import load_task


class Name(str):
    """A text that is not exactly one."""


ROWS: list[Row] = [
    {"text": "a", "label": None},
    {"text": "\ud800 half a pair, \0, \u00e9, \U0001f600", "label": True},
    {"number": 10**30, "share": -0.0, "least": 5e-324, "none": math.inf},
    {"tokens": ["a", "b"], "spans": ({"at": [0, [1, {}]]}, ())},
    {},
    {"": ""},
    {"bytes": b"x", "set": {1, 2}, "name": Name("n")},
    {"array": np.float32(0.5), "deep": Name("x")},
    {1: "a key that is no text"},
]
DEEP: list[Any] = []
for _ in range(900):
    DEEP = [DEEP]
SOURCES = [
    SourceRow({"text": "a b", "label": "x"}, {"text": "a b", "label": " x ", "more": "1"}),
    SourceRow({"text": "a b", "label": "y"}, {"text": "a b", "label": "y", "more": "2"}, "qa"),
    SourceRow({"deep": DEEP}, {"deep": DEEP, "name": Name("n")}, "qa"),
    SourceRow({}, {}),
]


def types_of(value: Any) -> Any:
    if isinstance(value, dict):
        return [type(value) is dict or SourceRow, [(key, types_of(v)) for key, v in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value), *map(types_of, value[:3])] if value is not DEEP else list
    return type(value)


@pytest.mark.parametrize("row", [*ROWS, *SOURCES])
def test_a_row_comes_back_as_it_was(row: Row) -> None:
    store = RowStore([{"other": 1}, row, row])
    for read in (store[1], store[-1], [*store][2], store[1:][0], store.take(np.array([2]))[0]):
        assert read == row
        assert types_of(read) == types_of(row)
        assert list(read) == list(row)
        assert isinstance(read, SourceRow) is isinstance(row, SourceRow)
        if isinstance(row, SourceRow):
            assert isinstance(read, SourceRow)
            assert read.source == row.source
            assert [*read.source] == [*row.source]
            assert types_of(dict(read.source)) == types_of(dict(row.source))
            assert read.task == row.task


def test_no_number_is_no_number_again() -> None:
    (read,) = RowStore([SourceRow({"x": math.nan}, {"x": math.nan})])
    assert math.isnan(read["x"])
    assert math.isnan(read.source["x"])


def test_a_store_is_a_sequence() -> None:
    rows = [{"number": at} for at in range(10_000)]
    store = RowStore(iter(rows))
    assert len(store) == 10_000
    assert [*store] == rows == store
    assert store[3:9_999:7] == rows[3:9_999:7]
    assert store[::-1][:2] == rows[::-1][:2]
    assert store.take(np.array([5, 3, 5]))[1:] == [rows[3], rows[5]]
    mask = np.arange(len(rows)) % 2 == 1
    assert store.take(mask) == rows[1::2]
    assert store != rows[1:]
    assert not RowStore()
    assert RowStore.of(store) is store
    with pytest.raises(IndexError):
        store[10_000]


def test_a_change_of_a_row_is_not_kept() -> None:
    store = RowStore([{"tags": ["O"]}])
    store[0]["tags"][0] = "B-X"
    assert store[0] == {"tags": ["O"]}


def test_what_is_computed_once() -> None:
    store, made = RowStore([{"x": 1}]), []
    for key in (("a",), ("b",), ("a",)):
        store.once(key, lambda: made.append(1))
    assert len(made) == 2


ROW = "some words of a sentence that are no more than ten {},{}\n"


@pytest.fixture
def table(tmp_path: Path) -> FolderSource:
    """20,000 rows of a csv file."""
    lines = (ROW.format(at, "no" if at % 3 else "yes") for at in range(20_000))
    (tmp_path / "train.csv").write_text("".join(["text,label\n", *lines]))
    return FolderSource(tmp_path)


def test_read_rows_take_little_more_than_their_bytes(table: FolderSource) -> None:
    task = load_task("text/classification", {"text": "text", "label": "label"})
    size = table.files("train")[0].stat().st_size
    tracemalloc.start()
    try:
        split = task.settle(table).read(table, "train")
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(split.rows) == 20_000
    assert isinstance(split.rows, RowStore)
    assert split.rows.nbytes < 1.6 * size
    # A dict of two texts and its source take 800 bytes. The rest is one piece of the file.
    assert kept < 200 * 20_000
    assert peak < kept + 5_000_000


def test_a_row_and_its_source_are_stored_once() -> None:
    text = "x" * 1000

    def rows() -> Iterator[Row]:
        for at in range(100):
            source = {"text": f"{text}{at}", "label": "1"}
            yield SourceRow({**source, "label": 1}, source)

    assert RowStore(rows()).nbytes < 100 * 1100
