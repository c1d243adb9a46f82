"""Scores against the number of values that train."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.axes as mpl_axes
import pytest
from made import write

from ptv2_cli.report.build import build_report
from ptv2_cli.report.cells import Report
from ptv2_cli.report.pictures import plots
from ptv2_cli.report.pictures.pareto import front, tradeoffs
from ptv2_cli.report.runs import find_runs

METHODS = {
    "head_only": (0.60, 1_155),
    "bitfit": (0.76, 50_000),
    "ia3": (0.75, 52_000),
    "ln_tuning": (0.74, 51_000),
    "prompt_tuning": (0.72, 9_000),
    "lora": (0.83, 300_000),
    "dora": (0.83, 310_000),
    "rslora": (0.83, 300_000),
    "houlsby_adapter": (0.82, 600_000),
    "parallel_adapter": (0.82, 590_000),
    "finetune": (0.86, 22_700_000),
}


def report_of(folder: Path, *runs: dict[str, Any]) -> Report:
    for run in runs:
        write(folder, **run)
    return build_report(find_runs([folder]))


def field(folder: Path) -> Report:
    """Eleven methods, one of them with two seeds."""
    runs = [
        {"method": method, "prompt_len": None, "score": score, "trainable": trained}
        for method, (score, trained) in METHODS.items()
    ]
    return report_of(folder, *runs, {**runs[5], "score": 0.85, "seed": 12})


def test_the_best_setting_of_each_method_by_what_it_trains(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        {"score": 0.5, "trainable": 900},
        {"score": 0.7, "trainable": 900, "seed": 12},
        {"score": 0.4, "trainable": 900, "method__init": "vocab"},
        {"score": 0.8, "trainable": 700, "prompt_len": 8, "standard_error": 0.03},
        {"method": "none", "prompt_len": None, "score": 0.9, "trainable": 0},
        {"method": "finetune", "prompt_len": None, "status": "diverged", "score": None},
    )
    short, long = tradeoffs(report, report.columns[0])
    assert (short.label, short.trained, short.mean, short.spread) == (
        "ptuning_v2 p8",
        700,
        0.8,
        0.03,
    )
    assert (long.label, long.trained) == ("ptuning_v2 p20", 900)
    assert long.mean == pytest.approx(0.6)
    assert long.spread == pytest.approx(0.1 * 2**0.5)


def test_no_picture_where_all_train_the_same_number(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"score": 0.5}, {"score": 0.6, "prompt_len": 8})
    assert tradeoffs(report, report.columns[0]) == []


def test_front(tmp_path: Path) -> None:
    report = field(tmp_path)
    best = [point.label for point in front(tradeoffs(report, report.columns[0]))]
    assert best == ["head_only", "prompt_tuning", "bitfit", "lora", "finetune"]


def test_every_name_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    annotate = mpl_axes.Axes.annotate

    def keep(self: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(annotate(self, *args, **kwargs))
        return names[-1]

    monkeypatch.setattr(mpl_axes.Axes, "annotate", keep)
    files = list(plots.draw(field(tmp_path), tmp_path / "plots"))
    svg = tmp_path / "plots" / "trained-cb.svg"
    assert svg in files
    texts = {"".join(node.itertext()).strip() for node in ElementTree.parse(svg).iter()}
    assert set(METHODS) <= texts
    boxes = [name.get_window_extent() for name in names]
    assert len(boxes) == len(METHODS)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert names[0].axes.get_legend() is None  # a point may stand anywhere
    assert any(text.startswith("line: best up to this number") for text in texts)
