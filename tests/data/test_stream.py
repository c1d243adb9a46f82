"""New rows from streams: every format, one row at a time, bad rows named and passed over."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from squad_text import squad_json

from ptv2_cli.data.formats import BadRow, RawRow, Record
from ptv2_cli.data.rows import source_of
from ptv2_cli.data.stream import format_by_name, formats_of, read_records
from ptv2_cli.errors import DataError
from ptv2_cli.tasks.catalog import load_task

PATH = Path("new")


def read(layout: str, content: str | bytes) -> list[Record]:
    data = content.encode() if isinstance(content, str) else content
    return list(read_records(io.BytesIO(data), PATH, layout))


def values(layout: str, content: str | bytes) -> list[dict[str, Any]]:
    found = read(layout, content)
    assert all(isinstance(record, RawRow) for record in found), found
    return [record.values for record in found if isinstance(record, RawRow)]


def places(layout: str, content: str | bytes) -> list[int | None]:
    """Lines of all records; bad ones negative."""
    return [
        -(record.number or 0) if isinstance(record, BadRow) else record.number
        for record in read(layout, content)
    ]


def only_bad(layout: str, content: str | bytes) -> str:
    (bad,) = [record for record in read(layout, content) if isinstance(record, BadRow)]
    return str(bad.error)


def test_jsonl() -> None:
    text = '\ufeff{"a": "x"}\r\n\n{"a": "\u2028y"}'
    assert values("jsonl", text) == [{"a": "x"}, {"a": "\u2028y"}]
    assert places("jsonl", text) == [1, 3]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{'a': 1}", "new:2: no JSON"),
        (b"[1]", "new:2: no JSON object"),
        (b'{"a": "\xe9"}', "new:2: not UTF-8: byte 0xe9"),
        (b'{"a": "\\ud800"}', "new:2: half a surrogate pair: \\ud800"),
        (b"[" * 100_000, "new:2: cannot be read"),
        (b"9" * 5000, "new:2: cannot be read"),
    ],
)
def test_a_bad_jsonl_line_does_not_end_the_reading(line: bytes, says: str) -> None:
    data = b'{"a": "1"}\n' + line + b'\n{"a": "3"}\n'
    assert places("jsonl", data) == [1, -2, 3]
    assert says in only_bad("jsonl", data)


def test_csv() -> None:
    text = 'id, text\n1,"a, ""b""\nc"\n\n2,d\n'
    assert values("csv", text) == [{"id": "1", "text": 'a, "b"\nc'}, {"id": "2", "text": "d"}]
    assert places("csv", text) == [2, 5]


def test_tsv_as_glue_has_it() -> None:
    text = 'id\ttext\n1\ta "b\n2\t"c ""d"" e"\n'
    assert [row["text"] for row in values("tsv", text)] == ['a "b', 'c "d" e']


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b"1,2,3", "new:2: 3 fields, but the header names 2: id, text"),
        (b'1,"a"b', "new:2: a row that begins here cannot be read"),
        (b"1,\xe9", "new:2: not UTF-8: byte 0xe9"),
    ],
)
def test_a_bad_csv_row_does_not_end_the_reading(row: bytes, says: str) -> None:
    data = b"id,text\n" + row + b"\n3,c\n"
    assert places("csv", data) == [-2, 3]
    assert says in only_bad("csv", data)


@pytest.mark.parametrize(
    ("layout", "text", "says"),
    [
        ("csv", 'id,text\n1,"open\n2,b\n', "new:2: a row that begins here cannot be read"),
        ("csv", "a,a\n1,2\n", "two columns are called 'a'"),
        ("squad", '{"data": [{}]}', "not SQuAD's layout: no 'paragraphs'"),
        ("squad", '{"a":\n 1}', "not SQuAD's layout: no 'data'"),
        ("squad", "7", "not SQuAD's layout: other types"),
        ("json", '{"a":\n 1}', "no list of rows"),
        ("squad", "{", "no JSON"),
    ],
)
def test_what_no_row_can_be_read_with(layout: str, text: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(layout, text)
    assert says in str(caught.value)


def test_words_one_per_line_or_in_conll_columns() -> None:
    text = "-DOCSTART- -X- O\n\nAnn NNP B-PER\nsat\n\n\n\u5317\u4eac\r\n"
    assert values("conll", text) == [{"tokens": ["Ann", "sat"]}, {"tokens": ["\u5317\u4eac"]}]
    assert places("conll", text) == [3, 7]
    assert "new:2: not UTF-8" in only_bad("conll", b"a\n\xff\n\nb\n")


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (1, "1 Ann B\n2 sat O\n"),
        (-2, "1 Ann B\n2 sat O\n"),
        ("word", "# id word tag\n1 Ann B\n2 sat O\n"),
        ("word", "word\nAnn\nsat\n"),
        ("word", "Ann\nsat\n"),
        (2, "Ann\nsat\n"),
    ],
)
def test_the_column_of_the_words(token: int | str, text: str) -> None:
    (line,) = read_records(io.BytesIO(text.encode()), PATH, "conll", token)
    assert isinstance(line, RawRow)
    assert line.values == {"tokens": ["Ann", "sat"]}


def test_comments_and_the_word_hash() -> None:
    text = "# text = Ann sat\nAnn\nsat\n\n#\nBob\n# 5\n\n# NNP O\nEve NNP O\n"
    assert values("conll", text) == [
        {"tokens": ["Ann", "sat"]},
        {"tokens": ["#", "Bob", "#"]},
        {"tokens": ["#", "Eve"]},
    ]
    assert places("conll", text) == [2, 5, 9]
    named = read_records(io.BytesIO(b"Ann\n#\nsat\n"), PATH, "conll", "word")
    assert [record.values for record in named if isinstance(record, RawRow)] == [
        {"tokens": ["Ann", "#", "sat"]}
    ]


def test_a_sentence_without_the_column() -> None:
    bad, good = read_records(io.BytesIO(b"a b\nc d e\n\nf g h\n"), PATH, "conll", 2)
    assert isinstance(bad, BadRow)
    assert "new:1: no column 2: 'a b' has 2" in str(bad.error)
    assert (bad.number, bad.row) == (1, ["a b", "c d e"])
    assert isinstance(good, RawRow)
    with pytest.raises(DataError, match="no column 'word'"):
        list(read_records(io.BytesIO(b"id form\n1 a\n"), PATH, "conll", "word"))


def test_squad() -> None:
    text = squad_json("Ann sat.", {"id": "1", "question": "Who?"})
    (row,) = values("squad", text)
    assert row["question"] == "Who?"
    assert row["context"] == "Ann sat."


def endless(line: bytes, taken: list[int]) -> Iterator[bytes]:
    while True:
        taken.append(1)
        yield line


@pytest.mark.parametrize(
    ("layout", "line", "most"),
    [("jsonl", b'{"a": "x"}\n', 3), ("csv", b"x,y\n", 4), ("tsv", b"x\ty\n", 4)],
)
def test_nothing_is_read_ahead(layout: str, line: bytes, most: int) -> None:
    taken: list[int] = []

    class Stream:
        def __iter__(self) -> Iterator[bytes]:
            return endless(line, taken)

    if layout != "jsonl":  # a header of two names, then rows without end
        lines = endless(line, taken)
        header = line.replace(b"x", b"id").replace(b"y", b"text")

        class Table(Stream):
            def __iter__(self) -> Iterator[bytes]:
                yield header
                yield from lines

        stream: Any = Table()
    else:
        stream = Stream()
    records = read_records(stream, PATH, layout)
    for _ in range(3):
        next(records)
    assert len(taken) <= most


@pytest.mark.parametrize(
    ("kind", "name", "layout"),
    [
        ("sequence", "rows.JSONL", "jsonl"),
        ("sequence", "rows.csv", "csv"),
        ("regression", "rows.tsv", "tsv"),
        ("token", "rows.tsv", "conll"),
        ("token", "eng.conll.gz", "conll"),
        ("span", "dev.json", "squad"),
        ("sequence", "rows.json", "json"),
        ("sequence", "rows.csv.gz", "csv"),
        ("sequence", "rows.XLSX", "xlsx"),
    ],
)
def test_the_format_that_a_name_says(kind: Any, name: str, layout: str) -> None:
    assert format_by_name(Path(name), kind) == layout
    assert layout in formats_of(kind)


@pytest.mark.parametrize(
    ("kind", "name"), [("sequence", "a.xls"), ("sequence", "a"), ("span", "a.txt")]
)
def test_a_name_that_says_no_format(kind: Any, name: str) -> None:
    with pytest.raises(DataError) as caught:
        format_by_name(Path(name), kind)
    assert "--format jsonl | csv | tsv" in str(caught.value)


# What a task makes of them


def new_row(task: str, **columns: Any) -> dict[str, Any]:
    return load_task(task).new_row(RawRow(columns, PATH, 7))


def test_gold_is_not_looked_at_and_other_columns_stay() -> None:
    row = new_row("superglue/rte", premise="a", hypothesis="b", label="no such label", idx=3)
    assert row == {"premise": "a", "hypothesis": "b", "idx": 3}
    row = new_row("ner/conll2003", tokens=["a"], tags=["no", "such"], source="x")
    assert row == {"tokens": ["a"]}
    assert source_of(row) == {"tokens": ["a"], "tags": ["no", "such"], "source": "x"}
    task = load_task("text/classification", {"label": "stars", "labels": ["a", "b"]})
    line = RawRow({"text": "x", "stars": "5", "label": "other", "id": "1"}, PATH, 7)
    assert task.new_row(line) == {"text": "x", "id": "1"}
    row = new_row("qa/squad", question="a", context="b", answers={}, is_impossible=True)
    assert row == {"question": "a", "context": "b"}


def test_words_under_a_name_of_ones_own() -> None:
    task = load_task("text/tagging", {"token_column": "word", "tag_column": "ner"})
    line = RawRow({"word": ["a", "b"], "ner": ["?"]}, PATH, 7)
    assert task.new_row(line)["tokens"] == ["a", "b"]


def test_text_is_parted_into_words() -> None:
    assert new_row("ner/conll2003", text=" Ann  sat\t. ")["tokens"] == ["Ann", "sat", "."]


@pytest.mark.parametrize(
    ("task", "columns", "says"),
    [
        ("superglue/rte", {"premise": "a"}, "new:7: no column 'hypothesis'"),
        ("superglue/rte", {"premise": 1, "hypothesis": "b"}, "column 'premise' holds 1"),
        ("ner/conll2003", {"words": ["a"]}, "new:7: no words: neither tokens nor text"),
        ("ner/conll2003", {"text": " "}, "new:7: no words"),
        ("qa/squad", {"question": "a"}, "new:7: no column 'context'"),
    ],
)
def test_a_row_that_cannot_be_predicted(task: str, columns: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        new_row(task, **columns)
    assert says in str(caught.value)


def test_rows_are_json_again() -> None:
    (row,) = values("jsonl", '{"a": "\\ud83d\\ude00"}')
    assert json.dumps(row, ensure_ascii=False) == '{"a": "\U0001f600"}'
