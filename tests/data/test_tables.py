from __future__ import annotations

from typing import Any

import pytest

from ptv2_cli.data.formats import BadRow, RawRow
from ptv2_cli.data.tabular import DELIMITERS, read_table
from ptv2_cli.data.text_decoding import likely_encoding, open_text
from ptv2_cli.errors import DataError


def lines_of(path: Any, asked: str | None = None) -> list[RawRow]:
    """The rows of a table; a bad one is raised."""
    lines = []
    for record in read_table(open_text(path), DELIMITERS[path.suffix], asked):
        if isinstance(record, BadRow):
            raise record.error
        lines.append(record)
    return lines


def values(path: Any) -> list[dict[str, Any]]:
    return [line.values for line in lines_of(path)]


def fails(path: Any) -> str:
    with pytest.raises(DataError) as caught:
        lines_of(path)
    return str(caught.value)


def test_quotes_commas_and_line_ends_in_fields(corpus: Any) -> None:
    text = '\ufeff text ,label\r\n"one, ""two""\r\nthree",a\r\n\r\n四五,b\r\n'
    path = corpus.put("train.csv", text)
    lines = lines_of(path)
    assert [line.values for line in lines] == [
        {"text": 'one, "two"\r\nthree', "label": "a"},
        {"text": "四五", "label": "b"},
    ]
    assert [line.number for line in lines] == [2, 5]
    assert [line.header for line in lines] == [1, 1]


def test_a_lone_quote_in_a_tsv_is_a_quote(corpus: Any) -> None:
    path = corpus.put("train.tsv", 'sentence\tlabel\n"no end\t0\n"he said ""no"""\t1\n')
    assert values(path) == [
        {"sentence": '"no end', "label": "0"},
        {"sentence": 'he said "no"', "label": "1"},
    ]


def test_a_quoted_tsv_field_may_hold_a_line_end(corpus: Any) -> None:
    path = corpus.put("train.tsv", 'text\tlabel\n"one\ntwo"\ta\n')
    assert values(path) == [{"text": "one\ntwo", "label": "a"}]


def test_a_field_longer_than_the_csv_modules_limit(corpus: Any) -> None:
    path = corpus.put("train.csv", f"text,label\n{'x' * 200_000},a\n")
    assert len(values(path)[0]["text"]) == 200_000


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["train.csv", "train.tsv"])
def test_the_delimiter_is_found_in_the_header(corpus: Any, sign: str, name: str) -> None:
    path = corpus.put(name, f'text{sign}"a, b; c|d"\n"well{sign} yes"{sign}a\n')
    assert values(path) == [{"text": f"well{sign} yes", "a, b; c|d": "a"}]


def test_the_delimiter_of_the_name_is_kept_where_it_parts_the_header(corpus: Any) -> None:
    path = corpus.put("train.csv", "a;b;c,d\n1;2;3,4\n")
    assert values(path) == [{"a;b;c": "1;2;3", "d": "4"}]
    assert [line.values for line in lines_of(path, ";")] == [{"a": "1", "b": "2", "c,d": "3,4"}]


def test_a_delimiter_that_is_asked_for_and_is_none(corpus: Any) -> None:
    path = corpus.put("train.csv", "text;label\nwell, yes;a\n")
    with pytest.raises(DataError) as caught:
        lines_of(path, ",")
    assert f"{path}:1: the header is one column, 'text;label'" in str(caught.value)
    assert "separated by semicolons, not by commas" in str(caught.value)
    assert '-> task.delimiter: ";"' in str(caught.value)


def test_lines_of_old_macs(corpus: Any) -> None:
    path = corpus.put("train.csv", b'text;label\rfine;a\r"one\rtwo";b\r')
    assert [row["text"] for row in values(path)] == ["fine", "one\rtwo"]


def test_an_open_quote_does_not_take_the_rest_of_the_file_with_it(corpus: Any) -> None:
    path = corpus.put("train.csv", 'text,label\n"well,a\nyes,b\nno,c\n')
    with pytest.raises(DataError, match=r"train\.csv:2: a row that begins here"):
        list(read_table(open_text(path), ","))


def test_more_fields_than_the_header(corpus: Any) -> None:
    path = corpus.put("train.csv", "text,label\nfine,a\nwell, yes,a\n")
    assert f"{path}:3: 3 fields, but the header names 2: text, label" in fails(path)


def test_an_open_quote_is_named_by_its_first_line(corpus: Any) -> None:
    path = corpus.put("train.csv", 'text,label\nfine,a\n"well,a\nyes,b\n')
    assert f"{path}:3: a row that begins here cannot be read" in fails(path)


def test_two_columns_of_one_name(corpus: Any) -> None:
    path = corpus.put("train.csv", "text,label,text\na,b,c\n")
    assert f"{path}:1: two columns are called 'text'" in fails(path)


@pytest.mark.parametrize(
    ("text", "codec", "guess"),
    [
        ("une journée d'été", "latin1", "LATIN1"),
        ("the “best” film", "cp1252", "WINDOWS-1252"),
        ("这部电影很好看", "gb18030", "GB18030"),
    ],
)
def test_another_encoding_is_guessed_and_the_command_converts_it(
    corpus: Any, text: str, codec: str, guess: str
) -> None:
    import subprocess

    data = f"text,label\n{text},a\n".encode(codec)
    assert likely_encoding(data) == guess
    path = corpus.put("train.csv", data)
    said = fails(path)
    assert f"{path}:" in said
    assert "not UTF-8" in said
    subprocess.run(said.split(": iconv")[1].join(["iconv", ""]), shell=True, check=True, timeout=60)
    assert values(corpus.path / "train-utf8.csv") == [{"text": text, "label": "a"}]
