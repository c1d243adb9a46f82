"""Which settings are within the noise of the best, and what the table says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import write
from scipy.stats import binomtest, norm, ttest_ind

from ptv2_cli.report import noise
from ptv2_cli.report.build import build_report
from ptv2_cli.report.cells import Report
from ptv2_cli.report.noise import Contest
from ptv2_cli.report.runs import find_runs
from ptv2_cli.report.table import caption, grid

ROWS = 40


def lines(right: int, *, shift: int = 0, name: str = "p") -> list[dict[str, Any]]:
    """Lines of CB, of which `right` from row `shift` on are right."""
    good = {(at + shift) % ROWS for at in range(right)}
    labels = ("neutral", "entailment")
    return [
        {
            "premise": f"{name}{at}",
            "label": labels[at % 2 if at in good else 1 - at % 2],
            "probabilities": {},
            "gold": labels[at % 2],
        }
        for at in range(ROWS)
    ]


def made(folder: Path, right: int, shift: int = 0, name: str = "p", **more: Any) -> None:
    write(folder, lines=lines(right, shift=shift, name=name), score=right / ROWS, rows=ROWS, **more)


def words(report: Report) -> list[str | None]:
    (column,) = report.columns
    return [cell.verdict.word if cell.verdict else None for cell in report.cells(column)]


def report_of(folder: Path, **asked: str) -> Report:
    return build_report(find_runs([folder]), **asked)


def test_one_seed_each_is_tested_over_rows(tmp_path: Path) -> None:
    for rate, right, shift in ((0.1, 36, 0), (0.2, 34, 0), (0.3, 20, 5)):
        made(tmp_path, right, shift, train__lr=rate)
    report = report_of(tmp_path)
    _, near, far = (cell.verdict for cell in report.cells(report.columns[0]))
    # The second lacks two rows of the first. The third has rows 5-24 right, all of them right in
    # the first, which has 16 more.
    assert near.rows == binomtest(0, 2).pvalue
    assert far.rows == pytest.approx(binomtest(0, 16).pvalue)
    # Holm: the smaller of two p is doubled.
    assert far.p == pytest.approx(2 * binomtest(0, 16).pvalue)
    assert near.p == 0.5
    assert words(report) == ["best", "noise", "worse"]
    rows = grid(report).rows
    assert [row[3] for row in rows] == ["90.0 *", "85.0 ~", "50.0  ", "25.0  "]
    assert "* best of its column, ~ within the noise of the best" in caption(report)


def test_a_difference_has_to_hold_for_other_seeds_too(tmp_path: Path) -> None:
    for rate, scores in ((0.1, (36, 38, 37)), (0.2, (10, 35, 22)), (0.3, (10, 12, 11))):
        for seed, right in enumerate(scores):
            made(tmp_path, right, train__lr=rate, seed=seed)
    report = report_of(tmp_path)
    cells = report.cells(report.columns[0])
    _, unsure, _ = (cell.verdict for cell in cells)
    assert unsure.rows is not None
    assert unsure.rows < 0.01
    welch = ttest_ind(cells[0].values, cells[1].values, equal_var=False).pvalue
    assert unsure.seeds == pytest.approx(welch)
    assert unsure.p == pytest.approx(welch)  # the larger one, and the larger of two
    assert words(report) == ["best", "noise", "worse"]


def test_other_metrics_are_tested_by_the_bootstrap(tmp_path: Path) -> None:
    for rate, right in ((0.1, 38), (0.2, 37), (0.3, 12)):
        made(tmp_path, right, train__lr=rate)
    assert words(report_of(tmp_path, metric="f1_macro")) == ["best", "noise", "worse"]


def test_without_predictions_the_standard_errors_speak(tmp_path: Path) -> None:
    for rate, score in ((0.1, 0.9), (0.2, 0.85), (0.3, 0.5)):
        write(tmp_path, score=score, train__lr=rate, standard_error=0.05)
    write(tmp_path, score=0.4, train__lr=0.4)
    report = report_of(tmp_path)
    assert words(report) == ["best", "noise", "worse", "untested"]
    far = report.cells(report.columns[0])[2].verdict
    assert far
    assert far.rows == pytest.approx(2 * norm.sf(0.4 / np.hypot(0.05, 0.05)))


def test_a_holdout_that_is_not_reported_has_its_selection_value(tmp_path: Path) -> None:
    for rate, value in ((0.1, 0.9), (0.2, 0.5)):
        write(
            tmp_path, train__lr=rate, standard_error=0.05,
            selection__split="holdout", selection__value=value,
        )  # fmt: skip
    runs = [[run] for run in find_runs([tmp_path]).runs]
    scores = [run.score("holdout", "accuracy") for (run,) in runs]
    assert sorted(scores) == [0.5, 0.9]
    found = Contest(runs, scores.index(0.9), "holdout", "accuracy").verdicts()
    assert {verdict.word for verdict in found} == {"best", "worse"}


def test_rows_that_differ_are_no_pairs(tmp_path: Path) -> None:
    made(tmp_path, 36, train__lr=0.1)
    made(tmp_path, 10, name="other", train__lr=0.2)
    assert words(report_of(tmp_path)) == ["best", "untested"]


def test_damaged_predictions_are_no_test(tmp_path: Path) -> None:
    made(tmp_path, 36, train__lr=0.1)
    bad = [{**line, "label": "no class"} for line in lines(10)]
    write(tmp_path, lines=bad, score=0.2, rows=ROWS, train__lr=0.2)
    assert words(report_of(tmp_path)) == ["best", "untested"]


def test_a_row_alone_is_no_best(tmp_path: Path) -> None:
    made(tmp_path, 36)
    report = report_of(tmp_path)
    assert words(report) == [None]
    assert grid(report).rows[0][2] == "90.0"


def test_the_least_is_best_where_the_runs_chose_it(tmp_path: Path) -> None:
    for rate, right in ((0.1, 36), (0.2, 10)):
        made(tmp_path, right, train__lr=rate, selection__mode="min")
    assert words(report_of(tmp_path)) == ["worse", "best"]


def test_predictions_are_read_of_the_nearest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "NEAREST", 2)
    for at in range(6):
        made(tmp_path, 36 - 2 * at, train__lr=0.1 + at, standard_error=0.05)
    runs = find_runs([tmp_path]).runs
    ordered = sorted(runs, key=lambda run: run.score("validation", "accuracy") or 0, reverse=True)
    read: list[str] = []
    original = noise.predicted

    def counted(run: Any, *words: Any) -> Any:
        read.append(run.name)
        return original(run, *words)

    monkeypatch.setattr(noise, "predicted", counted)
    settings: Sequence[Any] = [[run] for run in ordered]
    found = Contest(settings, 0, "validation", "accuracy").verdicts()
    assert read == [run.name for run in ordered[:3]]
    assert all(verdict.p is not None for verdict in found[1:])


def test_stuck_runs_are_marked_and_named(tmp_path: Path) -> None:
    one = {"a": {"a": 9, "b": 0}, "b": {"a": 4, "b": 0}}
    both = {"a": {"a": 9, "b": 0}, "b": {"a": 3, "b": 1}}
    write(tmp_path, score=0.7, train__lr=0.1, detail={"confusion": one})
    write(tmp_path, score=0.8, train__lr=0.2, detail={"confusion": both})
    report = report_of(tmp_path)
    assert [row[3].strip() for row in grid(report).rows[:2]] == ["70.0 ?!", "80.0 *"]
    (stuck,) = report.cells(report.columns[0])[0].stuck
    assert f"one answer to all rows (docs/stuck.md): {stuck.name}" in report.notes
    assert "* best of its column, ? not tested, ! one answer to all rows" in caption(report)


def test_a_tagger_that_finds_nothing_is_stuck(tmp_path: Path) -> None:
    task = {"task": "ner/conll2003"}
    write(tmp_path, score=0.0, **task)
    (run,) = find_runs([tmp_path]).runs
    metrics = {**run.metrics, "majority_baseline": {"f1": 0.0, "f1_macro": 0.0}}
    assert not run.stuck("validation")
    assert type(run)(run.directory, metrics).stuck("validation")


def test_the_standard_error_stands_below_the_table(tmp_path: Path) -> None:
    made(tmp_path, 36, train__lr=0.1, standard_error=0.02)
    made(tmp_path, 34, train__lr=0.2, standard_error=0.03)
    report = report_of(tmp_path)
    assert [row[0] for row in grid(report).rows[2:]] == ["majority baseline", "standard error"]
    assert grid(report).rows[3][3].strip() == "2.0"  # that of the best row


def test_written_texts_have_a_standard_error_of_every_score(tmp_path: Path) -> None:
    # `write` gives each run a second score, half the first.
    detail = {"standard_errors": {"rouge_l": 0.02, "f1_macro": 0.031}}
    run = {"task": "text/generation", "standard_error": 0.02, "detail": detail}
    write(tmp_path, score=0.5, **run)
    for metric, error in (("rouge_l", "2.0"), ("f1_macro", "3.1")):
        table = grid(build_report(find_runs([tmp_path]), metric, None))
        assert table.rows[-1][0] == "standard error"
        assert table.rows[-1][2].strip() == error


def test_a_metric_that_is_no_sum_over_rows_is_not_resampled(tmp_path: Path) -> None:
    for rate, right in ((0.1, 38), (0.2, 12)):
        asked = {"task__metrics": ["auroc"], "selection__metric": "auroc"}
        made(tmp_path, right, train__lr=rate, **asked, selection__value=right / ROWS)
    runs = [[run] for run in find_runs([tmp_path]).runs]
    found = Contest(runs, 0, "validation", "auroc").verdicts()
    assert [verdict.word for verdict in found] == ["best", "untested"]
