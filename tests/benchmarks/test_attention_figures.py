"""The benchmark of attention: a row for each type, shape and way."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("attention")


def test_a_row_for_each_way(figures: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "SHAPES", [(2, 2, 5, 8)])
    monkeypatch.setattr("sys.argv", ["attention.py", "--rounds", "1"])
    assert figures.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 2 * 3


def test_both_sides_compute_the_same(figures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for way in ("training", "evaluation"):
        ours, stock = (side() for side in figures.sides(torch.float32, (2, 2, 5, 8), way))
        if way == "evaluation":
            ours, stock = (ours.transpose(1, 2),), (stock,)
        for one, other in zip(ours, stock, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
