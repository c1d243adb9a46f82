"""Predictions as csv, tsv and json files, which spreadsheets and programs read back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.data.tabular import DELIMITERS, read_table
from ptv2_cli.data.text_decoding import open_text
from ptv2_cli.errors import InputError
from ptv2_cli.runs.prediction.row_files import RowFile
from ptv2_cli.safe_text import guarded_cell

ROWS: list[dict[str, Any]] = [
    {
        "row": {"text": 'say "hi",\n\tplease', "n": 3, "label": "x"},
        "prediction": {"label": "a", "probabilities": {"a": 0.75, "b": 0.25}},
    },
    {
        "row": {"text": "=1+1", "more": None},
        "prediction": {"label": "b", "probabilities": {"a": 0.5, "b": float("nan")}},
    },
]


def written(path: Path, *groups: list[dict[str, Any]]) -> str:
    file = RowFile(path)
    for rows in groups:
        file.add(rows)
    assert file.lines == sum(map(len, groups))
    file.finish()
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("ending", "sign"), [("csv", ","), ("TSV", "\t")])
def test_tables(tmp_path: Path, ending: str, sign: str) -> None:
    path = tmp_path / f"o.{ending}"
    written(path, ROWS)
    with path.open(newline="", encoding="utf-8") as file:
        header, one, two = csv.reader(file, delimiter=sign)
    assert header == [
        *("text", "n", "label", "more"),
        *("prediction.label", "prediction.probabilities"),
    ]
    assert one == ['say "hi",\n\tplease', "3", "x", "", "a", '{"a": 0.75, "b": 0.25}']
    assert two == ["'=1+1", "", "", "", "b", '{"a": 0.5, "b": null}']
    mark = DELIMITERS[f".{ending.lower()}"]
    assert [row.values for row in read_table(open_text(path), mark)] == [  # type: ignore[union-attr]
        dict(zip(header, cells, strict=True)) for cells in (one, two)
    ]


@pytest.mark.parametrize("groups", [[ROWS], [ROWS[:1], [], ROWS[1:]]])
def test_a_json_file_is_one_list(tmp_path: Path, groups: list[list[dict[str, Any]]]) -> None:
    text = written(tmp_path / "o.json", *groups)
    assert [row["prediction"]["label"] for row in json.loads(text)] == ["a", "b"]
    assert json.loads(text)[1]["prediction"]["probabilities"]["b"] is None


def test_a_column_that_comes_later(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "o.csv")
    file.add(ROWS[:1])
    with pytest.raises(InputError, match="row 2 has a column 'more'"):
        file.add(ROWS[1:])
    file.stop()
    assert file.kept


def test_a_number_is_one_column(tmp_path: Path) -> None:
    text = written(tmp_path / "o.csv", [{"row": {"label": "x"}, "prediction": 0.5}])
    assert text == "label,prediction\nx,0.5\n"


@pytest.mark.parametrize(
    ("column", "prediction"), [("prediction.label", {"label": "a"}), ("prediction", 0.5)]
)
def test_a_column_that_is_called_as_one_of_the_prediction(
    tmp_path: Path, column: str, prediction: Any
) -> None:
    line = {"row": {"text": "x", column: "y"}, "prediction": prediction}
    with pytest.raises(InputError, match=f"the rows have a column '{column}'") as caught:
        RowFile(tmp_path / "o.csv").add([line])
    assert "--output o.jsonl" in str(caught.value)
    assert json.loads(written(tmp_path / "o.jsonl", [line])) == line


@pytest.mark.parametrize(("name", "says"), [("o.txt", ".txt says no"), ("o", "the name says no")])
def test_other_endings_are_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        RowFile(tmp_path / name)
    assert says in str(caught.value)
    assert "--output o.jsonl; or .json, .csv or .tsv" in str(caught.value)


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-a", "@x", "\t=1", "\r=1", "--1"])
def test_formulas_are_guarded(text: str) -> None:
    assert guarded_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-3.5", "+1", "-.5e-3", "", "a=b", " -", -3.5, None, True])
def test_other_cells_stay(value: Any) -> None:
    assert guarded_cell(value) is value
