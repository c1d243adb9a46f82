"""`ptv2 report`: the table in four forms, detail, pictures, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Ptv2, Refused
from latex_check import tables
from made import content, unfinished, write


@pytest.fixture
def runs() -> Path:
    """Two methods, two seeds, two tasks, one cell empty, one run unfinished."""
    folder = Path("runs")
    table = {"classes": {"no": {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 4}}}
    for seed, score in ((11, 0.5), (12, 0.6)):
        write(folder, score=score, seed=seed, detail=table, history=[0.1, score])
        write(folder, score=score, seed=seed, task="superglue/rte", history=[0.1, score])
    write(folder, method="finetune", prompt_len=None, score=0.9, percent=100.0, history=[0.9])
    unfinished(folder)
    return folder


def test_the_table(runs: Path, ptv2: Ptv2) -> None:
    result = ptv2("report")
    assert result.code == 0
    lines = [line.rstrip() for line in result.out.splitlines()]
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines[2:4]] == [
        ["ptuning_v2", "20", "55.0±7.1", "(2)", "?", "55.0±7.1", "(2)", "0.42", "60", "s"],
        ["finetune", "-", "90.0", "(1)", "*", "-", "100.00", "60", "s"],
    ]
    assert lines[4].split() == ["majority", "baseline", "25.0", "25.0"]
    assert "* best of its column, ? not tested" in lines
    assert result.err == "note: unfinished, not counted: killed\n"


def test_a_wide_table_fits_the_terminal(screen: None, ptv2: Ptv2) -> None:
    for number in range(9):
        write(Path("runs"), task=f"own/task{number}")
    result = ptv2("report")
    assert max(map(len, result.out.splitlines())) <= 80
    assert all(f"task{number}" in result.out for number in range(9))
    # Every part of the table repeats the row's name.
    assert result.out.count("ptuning_v2") > 1


def test_a_wide_table_in_a_pipe_is_one_table(ptv2: Ptv2) -> None:
    for number in range(9):
        write(Path("runs"), task=f"own/task{number}")
    lines = ptv2("report").out.splitlines()
    assert sum("ptuning_v2" in line for line in lines) == 1
    assert [line for line in lines if line != line.rstrip()] == []


def test_a_terminal_without_the_sign(
    runs: Path, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptv2_cli.cli.views.table_output.plus_minus", lambda: "+-")
    assert "55.0+-7.1 (2)" in ptv2("report").out


def test_markdown(runs: Path, ptv2: Ptv2) -> None:
    lines = ptv2("report", "--format", "markdown").out.splitlines()
    assert lines[:3] == [
        "| method | prompt | cb accuracy | rte accuracy | trainable % | time | memory |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| ptuning_v2 | 20 | 55.0±7.1 (2) ? | 55.0±7.1 (2) | 0.42 | 60 s | 1.5 GiB |",
    ]


def test_csv(runs: Path, ptv2: Ptv2) -> None:
    rows = list(csv.DictReader(io.StringIO(ptv2("report", "--format", "csv").out)))
    assert [row["method"] for row in rows] == ["ptuning_v2", "finetune"]
    assert float(rows[0]["cb accuracy mean"]) == pytest.approx(0.55)
    assert float(rows[0]["cb accuracy sd"]) == pytest.approx(0.005**0.5)
    assert rows[0]["cb accuracy n"] == "2"
    assert rows[0]["cb accuracy majority_baseline"] == "0.25"
    assert [row["cb accuracy verdict"] for row in rows] == ["untested", "best"]
    assert rows[1]["cb accuracy sd"] == rows[1]["rte accuracy mean"] == rows[1]["prompt_len"] == ""


def test_csv_holds_no_formula(ptv2: Ptv2) -> None:
    write(Path("runs"), task="own/-task", method="=cmd()", prompt_len=None, score=-0.5)
    head, row = csv.reader(io.StringIO(ptv2("report", "--format", "csv").out))
    assert head[4] == "'-task accuracy mean"
    assert (row[1], row[4]) == ("'=cmd()", "-0.5")


def test_json(runs: Path, ptv2: Ptv2) -> None:
    found = json.loads(ptv2("report", "--format", "json", "--detail").out)
    assert [column["name"] for column in found["columns"]] == ["cb", "rte"]
    first = found["rows"][0]
    assert first["cells"]["cb"]["values"] == [0.5, 0.6]
    assert first["cells"]["cb"]["seeds"] == [11, 12]
    assert [Path(run).parent for run in first["cells"]["cb"]["runs"]] == [runs, runs]
    assert "rte" not in found["rows"][1]["cells"]
    assert found["detail"][0]["classes"]["no"]["recall"] == 0.25
    assert found["notes"] == ["unfinished, not counted: killed"]


def test_detail(runs: Path, ptv2: Ptv2) -> None:
    text = ptv2("report", "--detail").out
    assert "cb, ptuning_v2 p20, mean of 2 runs" in text
    assert ["no", "50.0", "25.0", "33.3", "4"] in [line.split() for line in text.splitlines()]
    text = ptv2("report", "--detail", "--format", "markdown").out
    assert "| no | 50.0 | 25.0 | 33.3 | 4 |" in text


def test_pictures(runs: Path, ptv2: Ptv2) -> None:
    pytest.importorskip("matplotlib")
    result = ptv2("report", "--plots", "out/pictures")
    assert result.code == 0, result.err
    assert "wrote out/pictures/learning-curves-cb.svg\n" in result.err
    assert sorted(path.name for path in Path("out/pictures").iterdir()) == [
        f"learning-curves-{task}.{end}" for task in ("cb", "rte") for end in ("png", "svg")
    ]


@pytest.mark.parametrize("layout", ["methods", "paper"])
def test_a_reader_that_leaves_early_takes_no_pictures_away(runs: Path, layout: str) -> None:
    """`ptv2 report --plots DIR --html FILE | head`."""
    pytest.importorskip("matplotlib")
    files = ["--plots", "out"] + (["--html", "report.html"] if layout == "methods" else [])
    command = [sys.executable, "-m", "ptv2_cli", "report", "--layout", layout, *files]
    read, write_end = os.pipe()
    os.close(read)
    result = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert "Traceback" not in result.stderr
    assert list(Path("out").glob("*.png")), result.stderr
    assert Path("report.html").exists() == (layout == "methods")


def test_a_real_run(finished: Path, ptv2: Ptv2) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    result = ptv2("report", finished, "--split", "test", "--detail", "--format", "json")
    found = json.loads(result.out)
    (cell,) = (row["cells"]["rte"] for row in found["rows"])
    assert cell["values"] == [metrics["metrics"]["test"]["accuracy"]]
    assert found["columns"][0]["split"] == "test"
    assert found["detail"][0]["confusion"] == metrics["detail"]["test"]["confusion"]


def test_nothing_to_report(refused: Refused) -> None:
    Path("empty").mkdir()
    refused("report", "empty", says=["empty: holds no run", "ptv2 train CONFIG makes a run"])
    refused("report", says=["runs: there is no such folder of runs"])
    unfinished(Path("runs"))
    refused("report", says=["holds no finished run; 1 unfinished: killed", "continues it"])


def test_another_schema_version(refused: Refused) -> None:
    write(Path("runs"))
    other = write(Path("runs"), {**content(seed=12), "schema_version": 7})
    says = [f"{other}/metrics.json", "schema version 7, this ptv2 reads 1", "train the run again"]
    refused("report", says=says)


def test_options_that_mean_nothing(runs: Path, refused: Refused) -> None:
    refused("report", "--metric", "bleu", says=["--metric bleu", "metrics: accuracy, f1_macro"])
    refused("report", "--detail", "--format", "csv", says=["--format json"])


def test_pictures_without_matplotlib(
    runs: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptv2_cli.report.pictures.plots.find_spec", lambda name: None)
    refused("report", "--plots", "out", says=["--plots", "pip install 'ptv2[plots]'"])


def test_latex_with_a_baseline(runs: Path, ptv2: Ptv2) -> None:
    result = ptv2("report", "--format", "latex", "--baseline", "finetune")
    assert result.code == 0
    cells, *_ = tables(result.out)
    assert cells[0][:2] == ["method", "prompt"]
    assert "than finetune" in result.out


def test_a_baseline_in_every_format(runs: Path, ptv2: Ptv2) -> None:
    plain = ptv2("report", "--baseline", "finetune")
    assert "diff: points above finetune" in plain.out
    assert "-35.0" in plain.out
    (cell,) = json.loads(ptv2("report", "--baseline", "finetune", "--format", "json").out)[
        "baseline"
    ]["cells"]
    assert cell["difference"] == pytest.approx(-0.35)
    assert "| -35.0 |" in ptv2("report", "--baseline", "finetune", "--format", "markdown").out


def test_what_one_table_cannot_hold(runs: Path, refused: Refused) -> None:
    says = ["does not fit into one", "--format json"]
    refused("report", "--detail", "--format", "latex", says=says)
    refused("report", "--baseline", "finetune", "--format", "csv", says=says)
    refused("report", "--baseline", "lora", says=["no row is 'lora'", "ptuning_v2 p20"])


def test_the_papers_layout_in_every_format(runs: Path, ptv2: Ptv2) -> None:
    assert "Table 2 of arXiv 2110.07602" in ptv2("report", "--layout", "paper").out
    assert json.loads(ptv2("report", "--layout", "paper", "--format", "json").out)["tables"]
    assert ptv2("report", "--layout", "paper", "--format", "csv").out.startswith("table,backbone,")
    assert len(tables(ptv2("report", "--layout", "paper", "--format", "latex").out)) == 1
    assert ptv2("report", "--layout", "paper", "--format", "markdown").out.startswith("### Table 2")


def test_what_the_papers_layout_does_not_take(runs: Path, refused: Refused) -> None:
    for flag in (["--metric", "f1"], ["--split", "test"], ["--detail"], ["--baseline", "none"],
                 ["--html", "report.html"]):  # fmt: skip
        says = [flag[0], "means nothing with --layout paper"]
        refused("report", "--layout", "paper", *flag, says=says)


def test_a_page(runs: Path, ptv2: Ptv2) -> None:
    result = ptv2("report", "--html", "out/report.html")
    assert result.code == 0
    assert "wrote out/report.html" in result.err.splitlines()
    assert "ptuning_v2" in result.out  # the table is printed too
    text = Path("out/report.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "superglue/rte" in text


def test_a_page_that_cannot_be_written(runs: Path, ptv2: Ptv2, refused: Refused) -> None:
    refused(
        "report", "--html", "runs", says=["--html: runs is a folder", "--html runs/report.html"]
    )
    Path("file").write_text("")
    result = ptv2("report", "--html", "file/report.html")
    assert result.code == 2
    assert "file/report.html cannot be written" in result.err


def test_the_runs_in_prose(runs: Path, ptv2: Ptv2, refused: Refused) -> None:
    assert ptv2("report", "--describe").out.startswith("We report five runs on two tasks, CB and")
    assert "\\%" in ptv2("report", "--describe", "--format", "latex").out
    assert "We report" in ptv2("report", "--describe", "--format", "markdown").out
    refused("report", "--describe", "--format", "json", says=["prose cannot be written as json"])
    refused("report", "--describe", "--detail", says=["does not go with --describe"])
