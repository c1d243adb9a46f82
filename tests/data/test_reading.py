"""How files are read, in training and by `predict` alike: encodings, gzip, layouts, bad rows."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptv2_cli.data.formats import BadRow, RawRow
from ptv2_cli.data.rows import Reading
from ptv2_cli.data.source import FolderSource, data_suffix, split_of
from ptv2_cli.data.stream import format_by_name, read_records
from ptv2_cli.data.text_decoding import TextLines
from ptv2_cli.errors import DataError, Ptv2Error
from ptv2_cli.tasks.catalog import load_task

ROWS = [{"text": "naïve, “so” 北京", "label": "a"}, {"text": "x", "label": "b"}]
CSV = 'text,label\n"naïve, “so” 北京",a\nx,b\n'
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABBED = 'text\tlabel\n"naïve, “so” 北京"\ta\nx\tb\n'
TASK = load_task("text/classification", {"labels": ["a", "b"]})


def workbook(rows: list[list[Any]]) -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def trained_on(folder: Path, name: str, data: bytes, **how: Any) -> list[dict[str, Any]]:
    (folder / name).write_bytes(data)
    return TASK.read(FolderSource(folder, Reading(**how)), "train").rows


def predicted(name: str, data: bytes, **how: Any) -> list[dict[str, Any]]:
    layout = format_by_name(Path(name), "sequence")
    records = list(read_records(io.BytesIO(data), Path(name), layout, 0, Reading(**how)))
    assert all(isinstance(record, RawRow) for record in records), records
    return [record.values for record in records if isinstance(record, RawRow)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("train.csv", CSV.encode("utf-8-sig")),
        ("train.csv", CSV.encode("utf-16")),
        ("train.csv", b"\xfe\xff" + CSV.encode("utf-16-be")),
        ("train.csv", CSV.encode("utf-16-le")),
        ("train.csv", CSV.encode("utf-16-be")),
        ("train.csv", CSV.encode("utf-32")),
        ("train.csv", gzip.compress(CSV.encode("utf-16"))),
        ("train.csv", gzip.compress(CSV.encode()[:20]) + gzip.compress(CSV.encode()[20:]) + b"\0"),
        ("train.csv.gz", gzip.compress(CSV.encode())),
        ("train.tsv.gz", gzip.compress(TABBED.encode())),
        ("train.csv", TABBED.replace("\t", ";").encode()),
        ("train.csv", TABBED.encode()),
        ("train.jsonl", JSONL.encode()),
        ("train.jsonl.gz", gzip.compress(JSONL.encode("utf-8-sig"))),
        ("train.jsonl", f"\ufeff\n{JSONL}\ufeff\n".encode()),
        ("train.json", json.dumps(ROWS).encode()),
        ("train.json", json.dumps(ROWS, indent=2).encode("utf-16")),
        ("train.json", JSONL.encode()),
        ("train.json.gz", gzip.compress(json.dumps(ROWS).encode())),
        ("train.xlsx", workbook([["text", "label"], *(list(row.values()) for row in ROWS)])),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",
)
def test_the_same_rows_whatever_the_file(tmp_path: Path, name: str, data: bytes) -> None:
    assert trained_on(tmp_path, name, data) == ROWS
    assert predicted(name, data) == ROWS


@pytest.mark.parametrize(
    "codec", ["latin1", "cp1252", "gb18030", "shift_jis", "koi8-r", "utf-16-be"]
)
def test_an_encoding_that_is_said(tmp_path: Path, codec: str) -> None:
    text = {"gb18030": "这部电影", "shift_jis": "カタカナ", "koi8-r": "привет"}.get(codec, "été")
    data = f"text,label\n{text},a\n{text},b\n".encode(codec)
    found = trained_on(tmp_path, "train.csv", data, encoding=codec)
    assert [row["text"] for row in found] == [text, text]
    assert predicted("train.csv", data, encoding=codec) == found


def test_bytes_that_are_not_of_the_encoding_said(tmp_path: Path) -> None:
    data = "text,label\nété,a\nx,b\n".encode("latin1")
    with pytest.raises(DataError, match=r"train\.csv:2: not ascii: byte 0xe9"):
        trained_on(tmp_path, "train.csv", data, encoding="ascii")
    odd = "text,label\nx,a\ny,b\n".encode("utf-16-le") + b"z"
    with pytest.raises(DataError, match=r"train\.csv:4"):
        trained_on(tmp_path, "train.csv", odd)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        (
            "train.jsonl",
            b"\xff\xfe" + '{"text": "x", "label": "a"}\n'.encode("utf-16-le") + b"{\0\0\0\0\xdc",
            r"train\.jsonl:2: not utf-16: byte 0x00",
        ),
        (
            "train.json",
            json.dumps([{"text": "\udc80\ud800", "label": "a"}]).encode(),
            r"train\.json: row 1: half a surrogate pair",
        ),
    ],
)
def test_halves_of_characters(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        trained_on(tmp_path, name, data)


def test_words_and_sentences_from_zipped_columns(tmp_path: Path) -> None:
    data = gzip.compress("Ann B-PER\n\ufeff\nsat O\n".encode("utf-16"))
    (tmp_path / "train.txt.gz").write_bytes(data)
    rows = load_task("ner/conll2003").read(FolderSource(tmp_path), "train").rows
    assert rows == [{"tokens": ["Ann"], "tags": ["B-PER"]}, {"tokens": ["sat"], "tags": ["O"]}]
    records = read_records(io.BytesIO(data), Path("new"), "conll")
    assert [record.values["tokens"] for record in records if isinstance(record, RawRow)] == [
        ["Ann"],
        ["sat"],
    ]


def test_names_behind_gz() -> None:
    assert split_of(Path("a/train.csv.gz")) == "train"
    assert split_of(Path("dev-v2.0.json.GZ")) == "validation"
    assert data_suffix(Path("x.tar.gz")) == ".tar"
    assert data_suffix(Path(".gz")) == ""


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_damaged_gzip_file(tmp_path: Path, cut: int) -> None:
    whole = gzip.compress(CSV.encode())
    for data in (whole[:-cut], whole[:15] + b"\xff" * cut + whole[15:]):
        with pytest.raises(DataError, match="a damaged gzip file"):
            trained_on(tmp_path, "train.csv", data)


def test_a_gzip_bomb_is_read_in_pieces() -> None:
    data = gzip.compress(b'{"a": 1}\n' * 1_000_000)
    text = TextLines([data], Path("bomb"))
    assert next(iter(text)) == '{"a": 1}\n'


# Spreadsheets


def test_cells_of_every_type(tmp_path: Path) -> None:
    from datetime import date

    rows = [
        [],
        ["text", "n", "yes", "day", "empty"],
        ["a", 3, True, date(2020, 1, 2)],
        [None, None, None],
        ["b", 2.5, False, None, "x"],
    ]
    records = list(read_records(io.BytesIO(workbook(rows)), Path("new.xlsx"), "xlsx"))
    assert [(record.number, record.values) for record in records if isinstance(record, RawRow)] == [
        (3, {"text": "a", "n": "3", "yes": "true", "day": "2020-01-02T00:00:00", "empty": ""}),
        (5, {"text": "b", "n": "2.5", "yes": "false", "day": "", "empty": "x"}),
    ]


def test_more_cells_than_the_header_names() -> None:
    data = workbook([["text"], ["a", "b"], ["c"]])
    bad, good = read_records(io.BytesIO(data), Path("new.xlsx"), "xlsx")
    assert isinstance(bad, BadRow)
    assert "new.xlsx:2: 2 cells, but the header names 1: text" in str(bad.error)
    assert isinstance(good, RawRow)


@pytest.mark.parametrize("cut", [0, 10, 2000])
def test_a_damaged_spreadsheet(cut: int) -> None:
    data = workbook([["text"], ["a"]])
    with pytest.raises(DataError, match=r"no \.xlsx file that can be read"):
        list(read_records(io.BytesIO(data[:cut]), Path("new.xlsx"), "xlsx"))


def test_without_openpyxl(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"pip install 'ptv2\[xlsx\]'"):
        list(read_records(io.BytesIO(b""), Path("new.xlsx"), "xlsx"))


# Bad rows


def bad_lines(count: int) -> bytes:
    lines = [f"row {n},{'ab'[n % 2]}" for n in range(4)]
    lines += [f"row {n},c" for n in range(count)]
    return "\n".join(["text,label", *lines]).encode()


@pytest.mark.parametrize(("count", "says"), [(2, "2 bad rows"), (47, "and 37 more bad rows")])
def test_all_bad_rows_are_named_up_to_a_limit(tmp_path: Path, count: int, says: str) -> None:
    with pytest.raises(DataError) as caught:
        trained_on(tmp_path, "train.csv", bad_lines(count))
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == min(count, 10) + 1
    assert "train.csv:6: label 'c' is none of the task's" in told[0]
    assert f"train.csv: {says}\n  -> fix them; or ptv2 train --skip-bad" in told[-1]


def test_a_column_that_is_missing_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        trained_on(tmp_path, "train.csv", b"txt,label\na,a\nb,b\n")
    assert len(caught.value.problems) == 1


def test_bad_rows_are_left_out_and_kept(tmp_path: Path) -> None:
    data = b'text,label\nx,a\nx,"a"b\n\xff,a\n,a\ny,c\ny\nz,b\n'
    (tmp_path / "train.csv").write_bytes(data)
    split = TASK.read(FolderSource(tmp_path, Reading(skip_bad=True)), "train")
    assert [row["text"] for row in split.rows] == ["x", "z"]
    assert [bad.number for bad in split.bad] == [3, 4, 5, 6, 7]
    assert [bad.row for bad in split.bad][3:] == [{"text": "y", "label": "c"}, ["y"]]


def test_nothing_but_bad_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        trained_on(tmp_path, "train.csv", b"text,label\na,c\nb,d\n", skip_bad=True)
    assert "train.csv: no row of 2 can be used" in str(caught.value)
    assert "train.csv:2: label 'c'" in str(caught.value)


def test_a_limit_stops_before_later_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(bad_lines(3))
    assert len(TASK.read(FolderSource(tmp_path), "train", 4).rows) == 4


@pytest.mark.parametrize(
    ("task", "name", "text", "good", "bad"),
    [
        ("ner/conll2003", "train.txt", "Ann B-PER\nsat\n\nBob B-PER\n\nx B-Y\n", 1, [1, 6]),
        ("qa/squad", "train.jsonl", '{"context": ""}\n{"question": "", "context": ""}\n', 1, [1]),
        ("srl/conll2005", "train.txt", "0 a b ||| B-V O\nx a\n", 1, [2]),
    ],
)  # fmt: skip
def test_bad_rows_of_other_layouts(
    tmp_path: Path, task: str, name: str, text: str, good: int, bad: list[int]
) -> None:
    (tmp_path / name).write_text(text)
    source = FolderSource(tmp_path, Reading(skip_bad=True))
    split = load_task(task).settle(source).read(source, "train")
    assert len(split.rows) == good
    assert [row.number for row in split.bad] == bad


# What the fingerprint sees of the data


def identity(folder: Path, data: bytes, **how: Any) -> str:
    (folder / "train.csv").write_bytes(data)
    return TASK.read(FolderSource(folder, Reading(**how)), "train").sha256


def test_equal_rows_are_equal_data_however_they_are_read(tmp_path: Path) -> None:
    data = b"text;label\nx, y;a\nz;b\n"
    plain = identity(tmp_path, data)
    assert identity(tmp_path, data, delimiter=";", encoding="latin1", skip_bad=True) == plain


def test_other_rows_of_the_same_file_are_other_data(tmp_path: Path) -> None:
    data = "text,label\né,a\nz,b\n".encode("cp1252")
    found = {identity(tmp_path, data, encoding=name) for name in ("latin1", "cp1251", "cp1252")}
    assert len(found) == 2
    both = b"text,label;x\ny,a;1\nz,b;1\n"
    (tmp_path / "train.csv").write_bytes(both)
    task = load_task(
        "text/classification", {"text": "text,label", "label": "x", "labels": ["1", "2"]}
    )
    source = FolderSource(tmp_path, Reading(delimiter=";"))
    assert task.read(source, "train").sha256 != identity(tmp_path, b"text,label\ny,a\nz,b\n")


def test_rows_left_out_do_not_count(tmp_path: Path) -> None:
    one = identity(tmp_path, b"text,label\nx,a\ny,b\n\xff,a\n", skip_bad=True)
    assert identity(tmp_path, b"text,label\nx,a\n1,2,3\ny,b\n", skip_bad=True) == one
    assert identity(tmp_path, b"text,label\nx,a\nz,b\n\xff,a\n", skip_bad=True) != one


# Sentences or columns


COLUMNS = [
    "Ann\nsat\n\nBob\n",
    "Ann NNP B-NP B-PER\nsat VBD B-VP O\n\nBob NNP B-NP B-PER\n",
    "Ann\tNNP\nsat\tVBD\n",
    "EU B-ORG\nrejects O\n",
    "EU B-ORG\n",
    "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n",
    "doc 0 0 Ann NNP * - - - - (PERSON) -\ndoc 0 1 sat VBD * - - - - * -\n",
    "",
]
SENTENCES = [
    "Angela Merkel met the BBC in Berlin .\n",
    "Angela Merkel met the BBC .\nBob sat .\n",
    "Bob sat .\n\nAngela Merkel met the BBC .\n",
    "Bob sat .\n\nBob ran .\n",
]


@pytest.mark.parametrize("text", COLUMNS)
def test_columns_are_known(text: str) -> None:
    records = list(read_records(io.BytesIO(text.encode()), Path("new.txt"), None))
    assert records == list(read_records(io.BytesIO(text.encode()), Path("new.txt"), "conll"))


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences_are_known(text: str) -> None:
    records = read_records(io.BytesIO(text.encode()), Path("new.txt"), None)
    found = [record.values for record in records if isinstance(record, RawRow)]
    assert found == [{"text": line} for line in text.split("\n") if line]


@pytest.mark.parametrize("text", ["Bob sat .\nAnn ran .\n", "Ann NNP\nsat VBD\n\nBob NNP\n"])
def test_what_may_be_either_is_asked(text: str) -> None:
    with pytest.raises(DataError) as caught:
        list(read_records(io.BytesIO(text.encode()), Path("new.txt"), None))
    assert "--format conll: a word per line; --format text" in str(caught.value)


# Any bytes


LAYOUTS = ["jsonl", "csv", "tsv", "json", "squad", "conll", "text", "xlsx", None]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    data=st.one_of(
        st.binary(max_size=80),
        st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.lists(st.sampled_from(
            [b"text", b"label", b",", b";", b"\t", b"\n", b"\r", b'"', b"{", b"}", b"[", b"]",
             b'"text": ', b"\0", b"\xff", b"\xfe", b"\xef\xbb\xbf", b"\\u", b"d800", b"O", b" ",
             b"\x1f\x8b\x08"]
        ), max_size=20).map(b"".join),
    ),
    layout=st.sampled_from(LAYOUTS),
    encoding=st.sampled_from([None, "latin1", "utf-16", "utf-7", "shift_jis", "utf-8"]),
    zipped=st.booleans(),
)  # fmt: skip
def test_any_bytes_are_rows_bad_rows_or_an_error(
    data: bytes, layout: str | None, encoding: str | None, zipped: bool
) -> None:
    data = gzip.compress(data) if zipped else data
    try:
        records = list(read_records([data], Path("new"), layout, 0, Reading(encoding=encoding)))
    except Ptv2Error:
        return
    for record in records:
        if isinstance(record, RawRow):
            json.dumps(record.values, ensure_ascii=False).encode()
