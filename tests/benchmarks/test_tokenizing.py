"""The benchmark of tokenizing: it measures what it says, on a few rows."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "tokenizing.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    return runpy.run_path(str(SCRIPT))


def test_rows_are_varied_and_stay_rows(benchmark: dict[str, Any]) -> None:
    rows = [{"sentence": "a b c d e", "label": "x"}, {"sentence": "f g", "label": "y"}]
    made = list(benchmark["varied"](rows, 5))
    assert [row["label"] for row in made] == ["x", "y", "x", "y", "x"]
    assert [len(row["sentence"].split()) for row in made] == [5, 2, 5, 2, 5]
    assert len({row["sentence"] for row in made}) > 2
    asked = [{"context": "Ann sat", "question": "who ?"}]
    assert [row["context"] for row in benchmark["varied"](asked, 2)] == ["Ann sat 0", "Ann sat 1"]


def test_a_line_has_all_sides(
    benchmark: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiny

    from ptv2_cli.runs.rows import kept_tokens

    monkeypatch.setenv("PTV2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_tokens, "LEAST", kept_tokens.LEAST)
    tiny.save_model(tmp_path / "model", "bert")
    data = tiny.write_rte(tmp_path / "data")
    options = SimpleNamespace(backbone=str(tmp_path / "model"), rounds=1)
    line = benchmark["measured"]("superglue/rte", data, 24, 40, options)
    *rates, size = line.replace(",", "").split()
    assert len(rates) == 3
    assert all(float(rate) > 0 for rate in rates)
    assert size == "0"
    assert len(list((tmp_path / "cache").glob("*/*"))) == 1
