"""Detail over the runs of a cell: means of scores, sums of confusions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made import write

from ptv2_cli.report.build import build_report
from ptv2_cli.report.detail import Detail, details
from ptv2_cli.report.runs import find_runs


def classes(f1: float, right: int) -> dict[str, Any]:
    figures = {"precision": f1, "recall": f1, "f1": f1, "support": 4}
    return {
        "classes": {"no": figures, "yes": figures},
        "confusion": {"no": {"no": right, "yes": 4 - right}, "yes": {"no": 1, "yes": 3}},
    }


def of(folder: Path, *runs: dict[str, Any]) -> list[Detail]:
    for run in runs:
        write(folder, **run)
    return details(build_report(find_runs([folder])))


def test_two_seeds(tmp_path: Path) -> None:
    (found,) = of(tmp_path, {"detail": classes(0.5, 2)}, {"detail": classes(0.8, 3), "seed": 12})
    assert found.title == "cb, ptuning_v2 p20, mean of 2 runs, confusions added up"
    assert found.parts["classes"]["no"]["f1"] == pytest.approx(0.65)
    assert found.confusion == {"no": {"no": 5, "yes": 3}, "yes": {"no": 2, "yes": 6}}
    table, matrix = found.grids()
    assert table.headings == ["class", "precision", "recall", "f1", "support"]
    assert table.rows[0] == ["no", "65.0", "65.0", "65.0", "4"]
    assert matrix.headings == ["gold \\ predicted", "no", "yes"]
    assert matrix.rows == [["no", "5", "3"], ["yes", "2", "6"]]


def test_a_type_that_one_run_never_met_counts_nothing(tmp_path: Path) -> None:
    def types(**f1: float) -> dict[str, Any]:
        return {"types": {name: {"f1": value, "support": 0} for name, value in f1.items()}}

    (found,) = of(
        tmp_path,
        {"detail": types(PER=0.8)},
        {"detail": types(PER=0.6, LOC=0.4), "seed": 12},
    )
    assert found.parts["types"]["PER"]["f1"] == pytest.approx(0.7)
    assert found.parts["types"]["LOC"]["f1"] == pytest.approx(0.2)


def test_kinds_of_questions_and_single_figures(tmp_path: Path) -> None:
    kinds = {"has_answer": {"exact_match": 0.5, "f1": 0.6, "rows": 7}}
    (found,) = of(tmp_path, {"detail": {**kinds, "mean_absolute_error": 0.25}})
    table, figures = found.grids()
    assert table.rows == [["has_answer", "50.0", "60.0", "7"]]
    assert figures.rows == [["mean absolute error", "0.25"]]


def test_runs_without_detail(tmp_path: Path) -> None:
    assert of(tmp_path, {}) == []
