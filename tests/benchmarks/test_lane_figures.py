"""The benchmarks of lanes: what they measure is what they say, on shapes that take seconds."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
HOLD = "import time; held = b'x' * (100 << 20); time.sleep(0.6)"
MEBIBYTE = 1 << 20


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`load("lanes")`: that script as a module, with what stands beside it importable."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def get(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return get


@pytest.fixture
def carry_out(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What runs the commands of a benchmark."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("parts.processes").carry_out


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_processes_at_one_time_are_added_up(carry_out: Any, tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", HOLD]] * 2
    apart, one = carry_out(commands, 1, os.environ, tmp_path)
    trainer, two = carry_out(commands, 2, os.environ, tmp_path)
    assert 100 * MEBIBYTE < one < 190 * MEBIBYTE
    assert 200 * MEBIBYTE < two < 290 * MEBIBYTE
    assert apart > 1.2
    assert trainer < apart


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_children_count(carry_out: Any, tmp_path: Path) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}])"
    _, peak = carry_out([[sys.executable, "-c", code]], 1, os.environ, tmp_path)
    assert peak > 100 * MEBIBYTE


def test_a_failed_command_ends_the_measurement(carry_out: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        carry_out(
            [[sys.executable, "-c", "raise ValueError('no such thing')"]], 1, os.environ, tmp_path
        )


def test_every_way_trains_the_same_trials(load: Any, tmp_path: Path) -> None:
    lanes = load("lanes")
    material = lanes.TASKS["conll2003"]
    asked = {name: lanes.commands(way, material, [], tmp_path) for name, way in lanes.WAYS.items()}
    assert [len(asked[name]) for name in ("lanes", "sweep", "train", "pairs")] == [1, 1, 8, 8]
    assert asked["train"] == asked["pairs"]
    (swept,) = asked["sweep"]
    assert asked["lanes"] == [[*swept[:-1], "8"]]
    assert swept[-2:] == ["--lanes", "1"]
    lengths, rates = (swept[swept.index(flag) + 1].split(",") for flag in ("--prompt-len", "--lr"))
    assert [line[-4:] for line in asked["train"]] == [
        ["--prompt-len", n, "--lr", lr] for n in lengths for lr in rates
    ]


def test_the_row_of_a_way(load: Any) -> None:
    lanes = load("lanes")

    def metrics(value: float) -> dict[str, Any]:
        timing = {"train_seconds": 3.0, "eval_seconds": 1.0}
        return {"selection": {"value": value}, "timing": timing}

    plain = lanes.Measured(20.0, MEBIBYTE, {(10, 0.01): metrics(0.5), (20, 0.01): metrics(0.7)})
    other = lanes.Measured(10.0, 2 * MEBIBYTE, {(10, 0.01): metrics(0.5), (20, 0.01): metrics(0.8)})
    row = other.row("lanes", plain)
    assert row == "| lanes | 10 | 0.50 | 8 | 2 | 65.0 | 80.0 (length 20, 0.01) | 1 |"


def test_rows_of_several_runs_are_answered_each_way(
    load: Any, folder_of: Any, tmp_path: Path
) -> None:
    rte, ner = tiny.write_rte(tmp_path / "rte"), tiny.write_ner(tmp_path / "ner")
    tasks = {"superglue/rte": rte, "ner/conll2003": ner}
    paths = []
    for name, data in tasks.items():
        section = {"name": name, "data": str(data), "max_len": 24}
        train = {"lr": 0.05, "steps": 1, "batch_size": 8, "seed": 11}
        file = tmp_path / f"{data.name}.yaml"
        config = tiny.write_config(
            file, folder_of("bert"), data, task=section, train=train, report=["validation"]
        )
        session, _ = tiny.trained(config, tmp_path / "runs")
        paths.append(session.resolved_run.directory.path)
    mixed = load("mixed")
    for way in ("mixed", "alone", "held"):
        figures = mixed.measured(way, paths, repeat=2, size=8)
        assert figures["rows"] == 2 * (12 + 16)  # the validation rows of both, twice
        assert figures["predict"] > 0
