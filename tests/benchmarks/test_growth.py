"""How the cost grows: what is expected is counted right, and the smallest form runs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import forked
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
PLOTS = importlib.util.find_spec("matplotlib") is not None


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("growth")


def test_operations_of_a_step(growth: Any) -> None:
    # Two layers of 4 wide, 8 inside, prompts in the upper one; 3 tokens, 2 prompt positions. A
    # layer's linear weights are 4 of 4 x 4 and 2 of 4 x 8: 128 values, 2 * 3 * 128 = 768
    # operations; attention is two products of 3 x 3 scores over 4, 2 * 2 * 36 = 144, and of 3 x 5
    # scores 240, twice that backward. Of the three projections of 4 x 4 no gradient goes on:
    # 2 * 3 * 48 = 288.
    shape = growth.Shape(layers=2, hidden=4, heads=1, inside=8)
    size = growth.Size(rows=1, tokens=3, prompt_len=2, layers=1)
    forward = 2 * 768 + 144 + 240
    assert growth.operations(shape, size) == forward + 768 + 480 - 288
    both = growth.Size(rows=5, tokens=3, prompt_len=2, layers=2)
    assert growth.operations(shape, both) == 5 * (2 * (2 * 768 + 3 * 240) - 288)


def test_one_scale_is_fitted(growth: Any) -> None:
    shape = growth.Shape()
    cost = {
        at: 0.5
        + 1e-9
        * (growth.operations(shape, size) - growth.operations(shape, growth.least_size(shape)))
        for at, size in growth.AXES["tokens"].sizes(shape.layers).items()
    }
    found, scale = growth.points(shape, {"tokens": {**cost, 16: 10.0}}, 0.5)
    assert scale == pytest.approx(1e-9)
    slow, *others = found["tokens"]
    assert slow.at == 16
    assert slow.measured == 10
    assert slow.expected == pytest.approx(cost[16])
    assert all(point.measured == pytest.approx(point.expected) for point in others)


def test_steps_grow_along_every_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = tmp_path / "figures.json"
    done = run(monkeypatch, "--axis", "layers", "--axis", "tokens", "--json", str(figures))
    assert done.returncode == 0, done.stderr
    assert "| T, tokens of a row | measured |" in done.stdout
    written = json.loads(figures.read_text())
    assert [point["at"] for point in written["layers"]] == [1, 2]
    assert [point["at"] for point in written["tokens"]] == [16, 32, 64, 128, 256, 512]
    assert all(point["measured"] > 0 for axis in written.values() for point in axis)


@pytest.mark.skipif(not PLOTS or sys.platform != "linux", reason="needs matplotlib and /proc")
def test_rows_are_predicted_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    options = ["--axis", "rows", "--rows", "3", "8", "--json", str(figures), "--plot", str(plot)]
    done = run(monkeypatch, *options)
    assert done.returncode == 0, done.stderr
    written = json.loads(figures.read_text())
    assert [point["at"] for point in written["rows"]] == [3, 8]
    assert all(point["measured"] > 100 * 2**20 for point in written["memory"])  # torch alone
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_that_of_the_command_alone(growth: Any) -> None:
    held = b"x" * (400 << 20)
    seconds, peak = importlib.import_module("parts.growth_rows").carry_out(["list", "methods"])
    assert held
    assert seconds > 0
    assert 10 << 20 < peak < 300 << 20


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    code = f"import runpy; runpy.run_path({str(FOLDER / 'growth.py')!r}, {{}}, '__main__')"
    return forked.finish("--shape", "2", "16", "2", "32", "--repeat", "1", *options, code=code)
