"""Processor time and peak memory of `ptv2 predict` by the number of its rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from parts.material import WORDS, write_model, write_rows
from parts.processes import SAMPLE_SECONDS, resident

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; from ptv2_cli.cli.app import main; sys.exit(main())"
ROWS = (1_000, 3_000, 10_000, 30_000)
LARGEST = (100_000, 1_000_000)
TOKENS = 32
Triple = tuple[int, float, float]
"""Rows, measured, expected."""


def measure_rows(counts: Sequence[int]) -> tuple[list[Triple], list[Triple], float]:
    """Processor seconds and peak bytes by rows, and rows a second of processor time.

    The rate is that of the longest file without the time of one row. The peak is expected to be
    that of the shortest file.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = _trained(Path(folder))
        start, _ = _predict(run, Path(folder), 1)
        found = {}
        for count in counts:
            found[count] = _predict(run, Path(folder), count)
            print(f"predicted: {count:,} rows", file=sys.stderr, flush=True)
    scale = (found[counts[-1]][0] - start) / counts[-1]
    flat = found[counts[0]][1]
    cpu = [(count, seconds, start + scale * count) for count, (seconds, _) in found.items()]
    memory = [(count, float(peak), float(flat)) for count, (_, peak) in found.items()]
    return cpu, memory, 1 / scale


def _trained(folder: Path) -> Path:
    """A run of one step with a small model."""
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    write_model(folder / "model", "bert", "float32", {**shape, "intermediate_size": 256})
    write_rows(folder, 8, TOKENS)
    config = folder / "config.yaml"
    config.write_text(
        f"method: ptuning_v2\nbackbone: {folder}/model\nprompt_len: 8\n"
        f"task: {{name: text/classification, data: {folder}, text: [text], label: label, "
        f"max_len: {TOKENS + 2}}}\ntrain: {{lr: 1e-3, steps: 1}}\n"
    )
    carry_out(["train", str(config), "--output", str(folder / "runs"), "--device", "cpu"])
    return next((folder / "runs").glob("*/metrics.json")).parent


def _predict(run: Path, folder: Path, count: int) -> tuple[float, int]:
    """Processor seconds and peak resident bytes of one command."""
    rows, answers = folder / "rows.jsonl", folder / "answers.jsonl"
    with rows.open("w", encoding="utf-8") as file:
        for index in range(count):
            words = (WORDS[(index * 31 + at * 17) % len(WORDS)] for at in range(TOKENS))
            file.write(json.dumps({"text": " ".join(words)}) + "\n")
    usage = carry_out(
        ["predict", str(rows), "--run", str(run), "--output", str(answers), "--device", "cpu"]
    )
    with answers.open(encoding="utf-8") as file:
        assert sum(1 for _ in file) == count
    answers.unlink()
    return usage


def carry_out(words: Sequence[str]) -> tuple[float, int]:
    """Processor seconds and peak resident bytes of a ptv2 command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", COMMAND, *words]
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, env=environment, stdout=told, stderr=told, text=True)
        peak = 0  # the kernel's own mark would begin with the memory of this process
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, resident([process.pid]))
            time.sleep(SAMPLE_SECONDS)
        _, status, usage = ended
        if status:
            told.seek(0)
            sys.exit(f"{' '.join(words)}:\n{told.read()[-4000:]}")
    return usage.ru_utime + usage.ru_stime, peak
