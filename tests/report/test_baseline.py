"""Rows against a named baseline: which cells are tested, daggers, and all settings together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made import write
from scipy.stats import binomtest

from ptv2_cli.errors import InputError
from ptv2_cli.report.baseline import Baseline, against
from ptv2_cli.report.baseline_table import (
    cells_caption,
    cells_grid,
    content,
    markdown,
    rows_caption,
    rows_grid,
)
from ptv2_cli.report.build import build_report
from ptv2_cli.report.cells import Report
from ptv2_cli.report.runs import find_runs
from ptv2_cli.report.stratified import hedges_g, permutation

ROWS = 40
V2 = {"method": "ptuning_v2"}
FULL = {"method": "finetune", "prompt_len": None}
HEAD = {"method": "head_only", "prompt_len": None}


def lines(right: int, shift: int = 0) -> list[dict[str, Any]]:
    """Lines of CB, of which `right` from row `shift` on are right."""
    good = {(at + shift) % ROWS for at in range(right)}
    labels = ("neutral", "entailment")
    return [
        {
            "premise": f"p{at}",
            "label": labels[at % 2 if at in good else 1 - at % 2],
            "probabilities": {},
            "gold": labels[at % 2],
        }
        for at in range(ROWS)
    ]


def made(folder: Path, right: int, **more: Any) -> None:
    write(folder, lines=lines(right), score=right / ROWS, rows=ROWS, **more)


def report_of(folder: Path) -> Report:
    return build_report(find_runs([folder]))


def by_name(report: Report, baseline: Baseline) -> dict[tuple[str, str], Any]:
    return {
        (key.method, report.names[column]): test for (key, column), test in baseline.cells.items()
    }


def test_all_comparisons_of_the_table_are_corrected_together(tmp_path: Path) -> None:
    for data, own, head in (("a" * 64, 36, 10), ("d" * 64, 34, 38)):
        made(tmp_path, 20, data=data, **FULL)
        made(tmp_path, own, data=data, **V2)
        made(tmp_path, head, data=data, **HEAD)
    report = report_of(tmp_path)
    found = {
        (key.method, column.sha256[0]): test
        for (key, column), test in against(report, "finetune").cells.items()
    }
    discordant = {
        ("ptuning_v2", "a"): 16, ("head_only", "a"): 10,
        ("ptuning_v2", "d"): 14, ("head_only", "d"): 18,
    }  # fmt: skip
    ps = {key: binomtest(0, count).pvalue for key, count in discordant.items()}
    assert {key: test.rows for key, test in found.items()} == pytest.approx(ps)
    # Four tests: the least p times 4, the next times 3, ...
    for rank, key in enumerate(sorted(ps, key=ps.__getitem__)):
        assert found[key].p == pytest.approx((4 - rank) * ps[key])
    assert {key: test.mark for key, test in found.items()} == {
        ("ptuning_v2", "a"): "†", ("head_only", "a"): "‡",
        ("ptuning_v2", "d"): "†", ("head_only", "d"): "†",
    }  # fmt: skip


def test_a_difference_within_the_noise_has_no_dagger(tmp_path: Path) -> None:
    made(tmp_path, 34, **FULL)
    made(tmp_path, 36, **V2)
    report = report_of(tmp_path)
    (test,) = against(report, "finetune").cells.values()
    assert (test.p, test.mark, test.better) == (0.5, "", True)
    assert test.difference == pytest.approx(0.05)


def test_the_baseline_is_its_best_row_of_the_backbone(tmp_path: Path) -> None:
    for rate, right in ((1e-5, 12), (2e-5, 30)):
        made(tmp_path, right, train__lr=rate, **FULL)
    made(tmp_path, 36, **V2)
    report = report_of(tmp_path)
    (test,) = against(report, "finetune").cells.values()
    assert test.difference == pytest.approx(6 / ROWS)


def test_a_length_names_one_row_and_an_alias_its_method(tmp_path: Path) -> None:
    made(tmp_path, 36, prompt_len=5)
    made(tmp_path, 30, prompt_len=20)
    made(tmp_path, 20, **HEAD)
    report = report_of(tmp_path)
    assert len(against(report, "ptuning_v2").cells) == 1
    found = against(report, "ptuning_v2 p20").cells
    assert sorted(key.prompt_len or 0 for key, _ in found) == [0, 5]
    assert against(report, "linear_probe").name == "head_only"


def test_lower_can_be_better(tmp_path: Path) -> None:
    made(tmp_path, 30, selection__mode="min", **FULL)
    made(tmp_path, 10, selection__mode="min", **V2)
    report = report_of(tmp_path)
    (test,) = against(report, "finetune").cells.values()
    assert (test.mark, test.better) == ("†", True)
    assert test.difference < 0


def test_rows_over_several_settings(tmp_path: Path) -> None:
    pairs = []
    for at, task in enumerate(("cb", "rte", "boolq")):
        for seed in (11, 12):
            made(tmp_path, 20 + at + seed % 2, seed=seed, task=f"superglue/{task}", **FULL)
            made(tmp_path, 30 + at - seed % 2, seed=seed, task=f"superglue/{task}", **V2)
        base = [(20 + at + 1) / ROWS, (20 + at) / ROWS]
        pairs.append(([(30 + at - 1) / ROWS, (30 + at) / ROWS], base))
    made(tmp_path, 20, **HEAD)
    report = report_of(tmp_path)
    baseline = against(report, "finetune")
    (row,) = baseline.rows  # head_only has one setting alone
    expected = permutation(pairs)
    assert (row.settings, row.better, row.delta) == (3, 3, 1.0)
    assert (row.p, row.least) == (pytest.approx(expected.p), pytest.approx(expected.least))
    assert row.difference == pytest.approx(expected.difference)
    found = by_name(report, baseline)
    assert found["ptuning_v2", "cb"].g == pytest.approx(hedges_g(*pairs[0]))
    grid = rows_grid(baseline, report)
    assert grid.headings[-5:] == ["pairs", "better", "diff", "p", "delta"]
    assert grid.rows[0][-5:] == ["3", "3", "+22.5", f"{expected.p:.3f}", "+1.00"]
    assert "g: Hedges' g" in "\n".join(cells_caption(baseline))


def test_too_few_runs_are_said(tmp_path: Path) -> None:
    for task in ("cb", "rte"):
        made(tmp_path, 20, task=f"superglue/{task}", **FULL)
        made(tmp_path, 36, task=f"superglue/{task}", **V2)
    baseline = against(report_of(tmp_path), "finetune")
    assert rows_caption(baseline)[-1].startswith("with so few runs no p below 0.500")


def test_what_is_printed(tmp_path: Path) -> None:
    made(tmp_path, 20, **FULL)
    made(tmp_path, 36, **V2)
    report = report_of(tmp_path)
    baseline = against(report, "finetune")
    assert cells_grid(baseline, report).rows == [["ptuning_v2", "20", "+40.0†", "< 0.001"]]
    assert "1 comparison;" in cells_caption(baseline)[1]
    assert "| +40.0† |" in markdown(baseline, report)
    plain = content(baseline, report)
    assert plain["name"] == "finetune"
    assert plain["cells"][0]["significant"] is True
    assert plain["cells"][0]["p_rows"] == pytest.approx(binomtest(0, 16).pvalue)
    assert plain["over_settings"] == []


def test_an_unknown_baseline_lists_the_rows(tmp_path: Path) -> None:
    made(tmp_path, 20, **FULL)
    made(tmp_path, 36, **V2)
    with pytest.raises(InputError, match="lora") as error:
        against(report_of(tmp_path), "lora")
    assert error.value.problems[0].where == "--baseline"
    assert error.value.problems[0].hint == "one of: ptuning_v2, ptuning_v2 p20, finetune"


def test_a_baseline_alone_is_refused(tmp_path: Path) -> None:
    made(tmp_path, 20, **FULL)
    with pytest.raises(InputError, match="no other row"):
        against(report_of(tmp_path), "finetune")
