"""The comparison with other libraries: it runs, and its figures are what it says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import tiny

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
PEFT = importlib.util.find_spec("peft") is not None


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("peers")


def side(*, by_length: bool) -> Any:
    return SimpleNamespace(name="x", by_length=by_length, aim=None)


def test_steps_on_the_same_rows_are_compared_batch_by_batch(peers: Any) -> None:
    figures = peers.compare(side(by_length=True), [[3.0, 2.0]], [[1.0, 2.0]])
    assert figures.ratio == 2  # of 3 and 1
    assert (figures.low, figures.high) == (1.5, 2.5)
    assert figures.ms == 2500


def test_steps_on_other_rows_are_compared_with_the_mean_of_the_round(peers: Any) -> None:
    figures = peers.compare(
        side(by_length=False), [[3.0, 6.0], [4.0, 4.0]], [[1.0, 2.0], [2.0, 2.0]]
    )
    assert figures.ratio == 2  # of 2, 4, 2 and 2


def test_every_side_takes_its_steps(
    folder_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, figures = FOLDER / "peers.py", tmp_path / "figures.json"
    monkeypatch.syspath_prepend(str(FOLDER))
    code = f"import runpy; runpy.run_path({str(script)!r}, {{}}, '__main__')"
    options = ["--backbone", folder_of("bert"), "--data", tiny.write_rte(tmp_path / "rte")]
    options += ["--batches", 2, "--rounds", 1, "--batch-size", 4, "--prompt-len", 3]
    options += ["--max-len", 24, "--json", figures]
    if not PEFT:
        options += ["--only", "ptv2", "--only", "fine-tuning"]
    done = forked.finish("steps", *map(str, options), code=code)
    assert done.returncode == 0, done.stderr
    written = json.loads(figures.read_text())
    names = [one["name"] for one in written["figures"]]
    assert names[0] == "floor"
    assert sum(name.startswith("ptv2") for name in names) == 8
    assert sum(name.startswith("PEFT") for name in names) == (6 if PEFT else 0)
    for name in names:
        assert f"| {name} |" in done.stdout
        ((first, second),) = written["seconds"][name]
        assert first > 0
        assert second > 0
