"""Rows are read and tokenized one chunk ahead, in a thread; order and errors stay."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.data.formats import BadRow, RawRow, Record
from ptv2_cli.data.rows import Row
from ptv2_cli.errors import DataError
from ptv2_cli.runs.prediction.prediction_stream import Chunk, chunks
from ptv2_cli.runs.prediction.read_ahead import ReadAhead

LONG = 60.0
"""Seconds after which a test gives up waiting."""


class Numbers:
    """A task whose rows are numbers."""

    def new_rows(self, line: RawRow) -> list[Row]:
        """The line itself."""
        return [line.values]


def records(count: int, bad: tuple[int, ...] = ()) -> Iterator[Record]:
    for number in range(count):
        error = DataError.at(f"rows:{number}", "is bad")
        row = RawRow({"at": number}, Path("rows"), number)
        yield BadRow(number, error, {}) if number in bad else row


def told(rows: list[Row], encoded: list[Any]) -> list[Any]:
    assert [row["at"] for row in rows] == encoded
    return list(encoded)


def numbers(rows: list[Row]) -> list[Any]:
    return [row["at"] for row in rows]


def run(count: int, bad: tuple[int, ...] = (), **options: Any) -> Iterator[Chunk]:
    asked: Any = {"skip_bad": True, "ahead": True, "encode": numbers, "answer": told, **options}
    return chunks(Numbers(), records=records(count, bad), size=4, **asked)


def test_items_and_the_error_come_in_order() -> None:
    def failing() -> Iterator[int]:
        yield from range(3)
        raise KeyError("three")

    seen: list[int] = []
    with ReadAhead(failing()) as ahead, pytest.raises(KeyError, match="three"):
        seen.extend(ahead)
    assert seen == [0, 1, 2]


def test_one_item_ahead_and_no_thread_left() -> None:
    made = []
    third = threading.Event()

    def counted() -> Iterator[int]:
        for number in range(10**9):
            made.append(number)
            if number == 2:
                third.set()
            yield number

    with ReadAhead(counted()) as ahead:
        taken = iter(ahead)
        assert [next(taken), next(taken)] == [0, 1]
        assert third.wait(LONG)
    assert made == [0, 1, 2]
    assert not any(thread.name == "ptv2-read-ahead" for thread in threading.enumerate())


@pytest.mark.parametrize("bad", [(), (0, 1, 2, 3), (5,), (0, 9, 10)])
@pytest.mark.parametrize("count", [0, 1, 4, 11])
def test_the_same_chunks_as_without_a_thread(count: int, bad: tuple[int, ...]) -> None:
    plain, ahead = (list(run(count, bad, ahead=way)) for way in (False, True))
    assert [chunk.lines for chunk in ahead] == [chunk.lines for chunk in plain]
    assert [len(chunk.bad) for chunk in ahead] == [len(chunk.bad) for chunk in plain]
    lines = [line for chunk in ahead for line in chunk.lines]
    assert lines == [at for at in range(count) if at not in bad]


def test_the_next_chunk_is_encoded_while_one_is_answered() -> None:
    second = threading.Event()

    def encode(rows: list[Row]) -> list[Any]:
        if rows[0]["at"] == 4:
            second.set()
        return numbers(rows)

    def answer(rows: list[Row], encoded: list[Any]) -> list[Any]:
        assert second.wait(LONG)
        return encoded

    assert len(list(run(8, encode=encode, answer=answer))) == 2


def test_the_first_chunk_is_encoded_by_the_caller() -> None:
    """It loads the model."""
    threads = []

    def encode(rows: list[Row]) -> list[Any]:
        threads.append(threading.current_thread().name)
        return numbers(rows)

    list(run(9, encode=encode))
    assert threads == [threading.current_thread().name, *["ptv2-read-ahead"] * 2]


def test_rows_before_a_bad_one_are_answered() -> None:
    lines: list[Any] = []
    with pytest.raises(DataError, match="rows:9"):
        lines.extend(line for chunk in run(20, (9,), skip_bad=False) for line in chunk.lines)
    assert lines == list(range(9))


def test_chunks_before_an_error_of_the_tokenizer_are_answered() -> None:
    def encode(rows: list[Row]) -> list[Any]:
        if rows[0]["at"] == 8:
            raise ValueError("no such token")
        return numbers(rows)

    lines: list[Any] = []
    with pytest.raises(ValueError, match="no such token"):
        lines.extend(line for chunk in run(20, encode=encode) for line in chunk.lines)
    assert lines == list(range(8))


def test_an_interrupt_while_answering_leaves_no_thread() -> None:
    def answer(rows: list[Row], encoded: list[Any]) -> list[Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(10**6, answer=answer))
    assert not any(thread.name == "ptv2-read-ahead" for thread in threading.enumerate())
