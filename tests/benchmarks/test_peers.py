"""The comparison with other libraries: it runs, and its figures are what it says."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import tiny

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
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


def asked(folder_of: Any, data: Path) -> Any:
    return SimpleNamespace(
        backbone=folder_of("bert"),
        folder=folder_of("bert"),
        data=tiny.write_rte(data),
        rows=8,
        batch_size=4,
        prompt_len=3,
        max_len=24,
        lr=1e-2,
        seed=11,
        epochs=1,
        steps=None,
        precision=["bf16"],
        threads=1,
        repeat=1,
        warm=False,
    )


@pytest.mark.parametrize("at", range(4))
def test_a_whole_run_tells_its_phases(
    at: int, peers: Any, folder_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = importlib.import_module("whole_runs")
    way = whole.ways(["bf16"])[at]
    if way.kind == "peft" and not PEFT:
        pytest.skip("needs peft")
    _, *command = way.command(asked(folder_of, tmp_path / "rte"), tmp_path)
    monkeypatch.setenv("PHASES_BEGAN", repr(time.time()))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    if command[0] == "-c":
        _, code, *options = command
    else:
        code = f"import runpy; runpy.run_path({command[0]!r}, {{}}, '__main__')"
        options = command[1:]
    done = forked.finish(*options, code=code)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "phases.json").read_text())
    trained = {"start", "steps", "end"}
    if way.kind == "floor":
        assert written["score"] is None
    else:
        trained |= {"evaluation", "saving"}
        assert written["score"] in [n / 12 for n in range(13)]
    assert trained <= written["cpu"].keys() <= set(whole.PHASES)
    assert all(written["clock"][name] > 0 for name in trained)


def test_what_follows_the_last_phase_belongs_to_the_end(
    peers: Any, folder_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = importlib.import_module("whole_runs")
    content = {"clock": {"steps": 0.1, "end": 0.0}, "cpu": {"steps": 0.0, "end": 0.0}, "score": 0.5}

    def command(way: Any, options: Any, folder: Path) -> list[str]:
        (folder / "phases.json").write_text(json.dumps(content))
        return [sys.executable, "-S", "-c", "import time; time.sleep(0.3)"]

    monkeypatch.setattr(whole.Way, "command", command)
    found = whole.measure(asked(folder_of, tmp_path / "rte"))
    assert len(found) == 4
    for way in found.values():
        assert way.clock[0]["end"] > 0.2
        assert way.cpu[0]["end"] > 0
        assert way.scores == [0.5]


def test_whole_runs_are_compared_with_ptv2_and_with_the_floor(
    peers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = importlib.import_module("whole_runs")
    floor, ptv2, plain, by_length = (way.name for way in whole.ways(["bf16"]))

    def measured(steps: float, end: float) -> Any:
        run = {"steps": steps, "end": end}
        return whole.Measured([run], [{name: 2 * value for name, value in run.items()}], [0.625])

    found = {floor: measured(10, 9), ptv2: measured(6, 2)}
    found |= {plain: measured(30, 2), by_length: measured(15, 1)}
    whole.report(SimpleNamespace(precision=["bf16"]), found)
    lines = capsys.readouterr().out.splitlines()
    assert "| floor, fp32, steps alone | | 10.0 | 1.00 | 10.0 | | | | |" in lines
    assert f"| {plain} | 64.0 | 32.0 | 3.20 | 30.0 | 62.5 | 4.00 | 5.00 | >= 3.2 |" in lines
    assert f"| {ptv2} | CPU | 0.0 | 6.0 | 0.0 | 0.0 | 0.0 | 2.0 | 33 % |" in lines
    assert f"| {ptv2} | wall | 0.0 | 12.0 | 0.0 | 0.0 | 0.0 | 4.0 | 33 % |" in lines
