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
    options += ["--rows", 8, "--rounds", 1, "--batch-size", 4, "--prompt-len", 3]
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


def test_the_phases_of_a_process_add_up_to_its_time(
    peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = importlib.import_module("phases")
    clock = iter([(105.0, 3.0), (107.0, 4.0), (108.0, 4.5), (109.0, 5.0)])
    now = SimpleNamespace(time=lambda: moment[0], process_time=lambda: moment[1])
    monkeypatch.setattr(phases, "time", now)
    monkeypatch.setenv(phases.BEGAN, "100.0")
    found = phases.Phases()
    for name in ("start", "steps", "evaluation", "steps"):
        moment = next(clock)
        found.end(name)
    assert found.clock == {"start": 5, "steps": 3, "evaluation": 1}
    assert found.cpu == {"start": 3, "steps": 1.5, "evaluation": 0.5}


@pytest.mark.skipif(not PEFT, reason="needs peft")
def test_whole_runs_of_every_way(
    folder_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, figures = FOLDER / "peers.py", tmp_path / "figures.json"
    monkeypatch.syspath_prepend(str(FOLDER))
    code = f"import runpy; runpy.run_path({str(script)!r}, {{}}, '__main__')"
    options = ["--backbone", folder_of("bert"), "--data", tiny.write_rte(tmp_path / "rte")]
    options += ["--rows", 8, "--batch-size", 4, "--prompt-len", 3, "--max-len", 24]
    done = forked.finish("whole", *map(str, [*options, "--json", figures]), code=code)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("| ")]) == 14
    written = json.loads(figures.read_text())
    assert len(written) == 4
    for name, way in written.items():
        (cpu,), (clock,) = way["cpu"], way["clock"]
        assert min(cpu["start"], cpu["steps"], cpu["end"]) > 0
        assert clock["end"] > 0
        if not name.startswith("floor"):
            assert cpu["evaluation"] > 0
            assert 0 <= way["scores"][0] <= 1
    ptv2 = next(line for line in done.stdout.splitlines() if line.startswith("| `ptv2 train`"))
    total = sum(written["`ptv2 train`, bf16"]["cpu"][0].values())
    assert f"| {total:.1f} |" in ptv2
