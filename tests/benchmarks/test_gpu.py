"""benchmarks/gpu.py: all its tables on the CPU with a tiny shape, and its time budget."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SHAPE = (
    "--device cpu --layers 3 --hidden 128 --heads 2 --inside 256 --vocab 50 --tokens 8 "
    "--prompt-len 2 --batch 2 --lanes 1 3 --steps 1 --square 64 --without compile"
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    yield gpu
    for name in ("gpu", "parts.gpu_sides"):
        sys.modules.pop(name, None)


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[Any, str]:
    """The JSON that the script writes, and what it prints."""
    monkeypatch.syspath_prepend(str(FOLDER))
    script = str(FOLDER / "gpu.py")
    code = f"import runpy; runpy.run_path({script!r}, {{}}, '__main__')"
    file = tmp_path / "gpu.json"
    done = forked.finish(*SHAPE.split(), "--json", str(file), *options, code=code)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()), done.stdout


def test_every_table_of_a_tiny_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, text = run(tmp_path, monkeypatch)
    lines = content["lines"]
    failed = {
        line.get("side") or line.get("weights") or str(line): line["failed"]
        for line in lines
        if "failed" in line
    }
    assert failed.pop("ptv2, CUDA graphs") == "NotImplementedError: CUDA graphs need a GPU"
    assert set(failed) == {"int4", "fsdp2"}  # they need a GPU too
    measured = [line for line in lines if "failed" not in line]
    assert [line["side"] for line in measured if "side" in line] == [
        *("floor", "ptv2", "PEFT prefix tuning", "fine-tuning") * 2,
    ]
    assert all(line["ms"] > 0 for line in measured)
    lanes = [line for line in measured if "lanes" in line]
    for line in lanes:
        assert line["rows/s"] * line["ms"] / 1000 == pytest.approx(2 * line["lanes"])
    assert [line["lanes"] for line in lanes] == [1, 3]
    assert [line["train.cache"] for line in measured if "train.cache" in line] == ["none", "memory"]
    two, four, whole = (line for line in measured if line.get("weights") == "bf16")
    assert whole["layers"] == "3 (computed)"
    assert whole["ms"] == pytest.approx((two["ms"] + four["ms"]) / 2)
    assert text.count("\n| --- |") == 5
    assert content["skipped"] == []


def test_no_time_left_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, text = run(tmp_path, monkeypatch, "--minutes", "0", "--only", "cache")
    assert content["lines"] == []
    assert content["skipped"] == ["none", "memory"]
    assert "no time left for: none, memory" in text


def test_a_slow_or_broken_measurement_is_a_line(gpu: Any, tmp_path: Path) -> None:
    import time

    report = gpu.Report(tmp_path / "x.json", time.monotonic() + 60, 0.05, {})
    report.table("t", "side", "ms")

    def broken() -> dict[str, Any]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

    report.add({"side": "slow"}, lambda: time.sleep(5) or {})
    report.add({"side": "broken"}, broken)
    report.add({"side": "good"}, lambda: {"ms": 1.0})
    slow, memory, good = json.loads((tmp_path / "x.json").read_text())["lines"]
    assert slow["failed"] == "OutOfTime: took more than 0 s"
    assert memory["failed"] == "out of memory"
    assert good["ms"] == 1.0


def test_operations_of_a_row(gpu: Any) -> None:
    # Two layers of 4 wide, 8 inside; 3 tokens, 2 prompt positions. A layer's linear weights are
    # 4 of 4 x 4 and 2 of 4 x 8: 128 values, 2 * 3 * 128 = 768 operations; its two attention
    # products are of 3 x 5 scores over 4: 2 * 2 * 60 = 240, and twice that backward.
    setting = SimpleNamespace(layers=2, tokens=3, config={"hidden_size": 4})
    assert gpu.operations(setting, 2 * 128, 2) == 2 * (768 + 768 + 240 + 480)
    assert gpu.operations(setting, 2 * 128, 2, trains=True) == 2 * (3 * 768 + 240 + 480)
