"""`ptv2 train --skip-bad`, and what commands say of several bad rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2, Refused, only_run

GOOD = "text,label\nann sat,yes\nbob ran,no\nann ran,yes\nbob sat,no\n"
BAD = b"one field\n\xff\xfe,yes\n,no\n"


@pytest.fixture(autouse=True)
def _data(material: Material) -> None:
    Path("train.csv").write_bytes(GOOD.encode() + BAD)
    Path("dev.csv").write_text(GOOD)
    task = {"name": "text/classification", "train": "train.csv", "validation": "dev.csv"}
    material.write(Path("config.yaml"), task={**task, "max_len": 20})


def metrics() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((only_run() / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("command", ["train", "check"])
def test_every_bad_row_is_named(command: str, refused: Refused) -> None:
    says = [
        "train.csv:6: 1 field, but the header names 2",
        "train.csv:7: not UTF-8: byte 0xff",
        "train.csv:8: column 'text' is empty",
        "train.csv: 3 bad rows\n  -> fix them; or ptv2 train --skip-bad leaves",
    ]
    refused(command, "config.yaml", says=says)


def test_bad_rows_are_left_out_counted_and_kept(ptv2: Ptv2) -> None:
    result = ptv2("train", "config.yaml", "--skip-bad")
    assert result.code == 0, result.err
    assert "warning: 3 bad rows of train left out, 4 are used; the first: " in result.err
    found = metrics()
    assert found["data"]["train"]["rows"] == 4
    assert found["data"]["train"]["skipped_rows"] == 3
    assert found["data"]["validation"]["skipped_rows"] == 0
    assert any("3 bad rows of train" in text for text in found["warnings"])
    lines = (only_run() / "train.bad.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["line"] for line in lines] == [6, 7, 8]
    assert json.loads(lines[1])["row"] == ["\\xff\\xfe", "yes"]
    assert not (only_run() / "validation.bad.jsonl").exists()


def test_the_run_can_be_scored_and_found_again(ptv2: Ptv2) -> None:
    assert ptv2("train", "config.yaml", "--skip-bad").code == 0
    again = ptv2("train", "config.yaml", "--skip-bad")
    assert "finished already" in again.err
    assert "3 bad rows of train" in again.err
    result = ptv2("eval", only_run(), "--split", "train")
    assert result.code == 0, result.err
    assert "3 bad rows of train left out" in result.err
    assert "equal" in ptv2("eval", only_run()).out
    assert ptv2("train", only_run() / "config.yaml").code == 0, "as the hint of a cut run says"


def test_without_bad_rows_it_is_the_same_run(ptv2: Ptv2) -> None:
    Path("train.csv").write_text(GOOD)
    assert ptv2("train", "config.yaml").code == 0
    again = ptv2("train", "config.yaml", "--skip-bad")
    assert "finished already" in again.err
    said = ptv2(
        "train", "config.yaml", "--set", "task.encoding=latin1", "--set", "task.delimiter=','"
    )
    assert "finished already" in said.err, said.err


def test_mended_rows_are_another_run(ptv2: Ptv2) -> None:
    assert ptv2("train", "config.yaml", "--skip-bad").code == 0
    Path("train.csv").write_text(GOOD + "one field,yes\n")
    assert ptv2("train", "config.yaml", "--skip-bad").code == 0
    assert len(list(Path("runs").iterdir())) == 2


def test_check_says_what_is_left_out(ptv2: Ptv2) -> None:
    result = ptv2("check", "config.yaml", "--set", "task.skip_bad=true")
    assert result.code == 0
    assert "3 bad rows of train left out" in result.err
    assert "warnings, no errors" in result.out


def test_bad_rows_of_one_of_several_tasks(ptv2: Ptv2, material: Material) -> None:
    files = {"train": "train.csv", "validation": "dev.csv"}
    part = {"name": "text/classification", **files, "max_len": 20}
    both = [part, {**part, "train": "dev.csv"}]
    material.write(Path("both.yaml"), task=None, tasks=both)
    result = ptv2("train", "both.yaml", "--skip-bad")
    assert result.code == 0, result.err
    assert metrics()["data"]["train"]["skipped_rows"] == 3


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("delimiter=ab", "task.delimiter must be one character such as"),
        ("encoding=latin9000", "task.encoding must be an encoding such as latin1"),
        ("encoding=hex", "task.encoding must be an encoding such as latin1"),
    ],
)
def test_keys_that_cannot_be(refused: Refused, key: str, says: str) -> None:
    refused("train", "config.yaml", "--set", f"task.{key}", says=[says])
