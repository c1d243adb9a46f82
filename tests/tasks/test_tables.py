from __future__ import annotations

from typing import Any

import pytest

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.decoding import likely_encoding
from ptv2_cli.tasks.tables import read_table


def values(path: Any) -> list[dict[str, Any]]:
    return [line.values for line in read_table(path)]


def fails(path: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(read_table(path))
    return str(caught.value)


def test_quotes_commas_and_line_ends_in_fields(shelf: Any) -> None:
    text = '\ufeff text ,label\r\n"one, ""two""\r\nthree",a\r\n\r\n四五,b\r\n'
    path = shelf.put("train.csv", text)
    lines = list(read_table(path))
    assert [line.values for line in lines] == [
        {"text": 'one, "two"\r\nthree', "label": "a"},
        {"text": "四五", "label": "b"},
    ]
    assert [line.number for line in lines] == [2, 5]
    assert [line.header for line in lines] == [1, 1]


def test_a_lone_quote_in_a_tsv_is_a_quote(shelf: Any) -> None:
    path = shelf.put("train.tsv", 'sentence\tlabel\n"no end\t0\n"he said ""no"""\t1\n')
    assert values(path) == [
        {"sentence": '"no end', "label": "0"},
        {"sentence": 'he said "no"', "label": "1"},
    ]


def test_a_quoted_tsv_field_may_hold_a_line_end(shelf: Any) -> None:
    path = shelf.put("train.tsv", 'text\tlabel\n"one\ntwo"\ta\n')
    assert values(path) == [{"text": "one\ntwo", "label": "a"}]


def test_a_field_longer_than_the_csv_modules_limit(shelf: Any) -> None:
    path = shelf.put("train.csv", f"text,label\n{'x' * 200_000},a\n")
    assert len(values(path)[0]["text"]) == 200_000


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_delimiter_is_named_with_the_command(shelf: Any, sign: str, name: str) -> None:
    path = shelf.put("train.csv", f"text{sign}label\nwell, yes{sign}a\n")
    text = fails(path)
    assert f"{path}:1: the header is one column, {f'text{sign}label'!r}" in text
    assert f"parted by {name}, not by commas" in text
    assert "-> python3 -c" in text


def test_that_command_mends_the_file(shelf: Any) -> None:
    import subprocess

    path = shelf.put("train.csv", 'text;label\nwell, "yes";a\n')
    subprocess.run(fails(path).split("-> ")[1], shell=True, check=True, timeout=60)
    assert values(shelf.path / "train-new.csv") == [{"text": 'well, "yes"', "label": "a"}]


def test_more_fields_than_the_header(shelf: Any) -> None:
    path = shelf.put("train.csv", "text,label\nfine,a\nwell, yes,a\n")
    assert f"{path}:3: 3 fields, but the header names 2: text, label" in fails(path)


def test_an_open_quote_is_named_by_its_first_line(shelf: Any) -> None:
    path = shelf.put("train.csv", 'text,label\nfine,a\n"well,a\nyes,b\n')
    assert f"{path}:3: a row that begins here cannot be read" in fails(path)


def test_two_columns_of_one_name(shelf: Any) -> None:
    path = shelf.put("train.csv", "text,label,text\na,b,c\n")
    assert f"{path}:1: two columns are called 'text'" in fails(path)


@pytest.mark.parametrize(
    ("text", "codec", "guess"),
    [
        ("une journée d'été", "latin1", "LATIN1"),
        ("the “best” film", "cp1252", "WINDOWS-1252"),
        ("这部电影很好看", "gb18030", "GB18030"),
        ("plain", "utf-16", "UTF-16"),
        ("plain", "utf-16-le", "UTF-16LE"),
    ],
)
def test_another_encoding_is_guessed_and_the_command_converts_it(
    shelf: Any, text: str, codec: str, guess: str
) -> None:
    import subprocess

    data = f"text,label\n{text},a\n".encode(codec)
    assert likely_encoding(data) == guess
    path = shelf.put("train.csv", data)
    said = fails(path)
    assert f"{path}:" in said
    assert "not UTF-8" in said
    subprocess.run(said.split(": iconv")[1].join(["iconv", ""]), shell=True, check=True, timeout=60)
    assert values(shelf.path / "train-utf8.csv") == [{"text": text, "label": "a"}]
