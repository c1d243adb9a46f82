"""`track: csv_lines`: a line for each score, and none twice when a run goes on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ptv2_example.csv_lines import CsvLines, Options

from ptv2_cli.cli.app import run as ptv2
from ptv2_cli.training.events import EvalDone, Started


def test_a_run_writes_its_scores(config: Any, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    path = config(track=[{"name": "csv_lines", "file": "all.csv"}])
    assert ptv2(["train", str(path), "--output", str(output), "--device", "cpu"]) == 0
    (folder,) = (file.parent for file in output.glob("*/metrics.json"))
    with (folder / "all.csv").open() as file:
        heading, *lines = csv.reader(file)
    assert heading == ["step", "metric", "value"]
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    seen = {(int(step), name): float(value) for step, name, value in lines}
    assert len(seen) == len(lines) == 3 * len(history)
    for entry in history:
        assert seen[entry["step"], "f1_micro"] == entry["metrics"]["f1_micro"]


def test_a_run_that_goes_on_writes_no_step_twice(tmp_path: Path) -> None:
    run: Any = SimpleNamespace(directory=SimpleNamespace(path=tmp_path))

    def follow(resumed_at: int, *steps: int) -> list[list[str]]:
        sink = CsvLines(run, Options())
        sink.on(Started(tmp_path, 4, resumed_at, "f1_micro"))
        for step in steps:
            sink.on(EvalDone(step, step, {"f1_micro": step / 10}, 0.0, None))
        sink.close()
        with sink.path.open() as file:
            return list(csv.reader(file))[1:]

    follow(0, 1, 2, 3)
    assert [line[0] for line in follow(2, 3, 4)] == ["1", "2", "3", "4"]
    assert [line[0] for line in follow(0, 1)] == ["1"]


def test_unknown_options_and_trackers_are_refused(
    config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for track, says in (
        ([{"name": "csv_lines", "files": "x"}], "unknown key track[0].files"),
        ("csv_line", "did you mean 'csv_lines'?"),
    ):
        path = config(track=track)
        assert ptv2(["train", str(path), "--output", str(tmp_path / "runs")]) == 2
        assert says in capsys.readouterr().err
