#!/usr/bin/env python3
"""Where the seconds of a short `ptv2 train` go that are not steps, in one table.

    PTV2_DATA=FOLDER python benchmarks/startup.py [--rows N] [--validation N] [--repeat N]

RTE with MiniLM (configs/rte-minilm.yaml), one epoch, one thread: a first run with an empty cache,
and runs after it that find what it has left there. Each is the real command in a process of its
own, with a watch around the parts of the table; a part is what it takes without the parts inside
it. Figures are medians in seconds of processor time, which other work on the machine blurs less
than those of the clock, and seconds of the clock beside them.
"""

from __future__ import annotations

import argparse
import builtins
import functools
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PARTS = {
    "config and task": ["ptv2_cli.config.load.load_config", "ptv2_cli.runs.resolved_run.prepare"],
    "reading data": ["ptv2_cli.runs.resolved_run.read_data"],
    "hashing the backbone": ["ptv2_cli.backbones.files.locate.digests"],
    "tokenizer": ["ptv2_cli.runs.rows.encoding.load_tokenizer"],
    "weights": ["ptv2_cli.backbones.load._loaded"],
    "probe": ["ptv2_cli.backbones.load.probe_once"],
    "tokenizing": ["ptv2_cli.runs.rows.encoding.EncodedData.features"],
    "warnings about the data": ["ptv2_cli.runs.recorder.data_warnings"],
    "optimizer": ["ptv2_cli.runs.session.build_optimizer"],
    "git": ["ptv2_cli.runs.environment.git_state"],
    "steps": ["ptv2_cli.training.loop.train_batch"],
    "evaluations": ["ptv2_cli.runs.trainer.evaluate"],
    "saving": ["ptv2_cli.runs.trainer.Trainer._save_all"],
    "metrics.json and predictions": ["ptv2_cli.runs.recorder.RunRecorder.conclude"],
}
"""A part of the table, and the functions that it is spent in, by the names they are called by."""
PACKAGES = ("torch", "transformers", "scipy", "torchao", "pydantic", "huggingface_hub", "numpy")
"""Packages whose imports have a line each; what a package imports for itself is in its line."""


class Watch:
    """Adds up processor and clock seconds by part; a part inside another stops the outer one."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}
        self._open = ["all the rest"]
        self._last = (time.process_time(), time.perf_counter())

    def _split(self) -> None:
        now = (time.process_time(), time.perf_counter())
        spent = self.spent.setdefault(self._open[-1], [0.0, 0.0])
        for at in range(2):
            spent[at] += now[at] - self._last[at]
        self._last = now

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with what it takes added to a part."""

        @functools.wraps(function)
        def watched(*arguments: Any, **options: Any) -> Any:
            self._split()
            self._open.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self._split()
                self._open.pop()

        return watched

    def imports(self) -> None:
        """Watch the imports of PACKAGES, each in the line of the package that was asked for."""
        plain = builtins.__import__

        def watched(name: str, *arguments: Any, **options: Any) -> Any:
            package = name.partition(".")[0]
            inside = any(part.startswith("import ") for part in self._open)
            if inside or package not in PACKAGES or name in sys.modules:
                return plain(name, *arguments, **options)
            return self.around(f"import {package}", plain)(name, *arguments, **options)

        builtins.__import__ = watched

    def attach(self) -> None:
        """Put the watch around the functions of PARTS, once they are imported."""
        for part, functions in PARTS.items():
            for name in functions:
                owner, _, attribute = name.rpartition(".")
                try:
                    holder: Any = importlib.import_module(owner)
                except ModuleNotFoundError:  # a method: the class is an attribute of its module
                    module, _, of = owner.rpartition(".")
                    holder = getattr(importlib.import_module(module), of)
                setattr(holder, attribute, self.around(part, getattr(holder, attribute)))


def child(words: list[str], report: Path) -> int:
    """Run one command in this process, and write what its parts took."""
    watch = Watch()
    watch.imports()
    # The command imports these at its start too, in this order.
    from ptv2_cli.cli.app import run
    from ptv2_cli.cli.options import settle

    settle(offline=True)
    importlib.import_module("ptv2_cli.runs.trainer")
    watch.attach()
    code = run(words)
    watch._split()
    report.write_text(json.dumps(watch.spent), encoding="utf-8")
    return code


def measured(words: list[str], folder: Path, environment: dict[str, str]) -> dict[str, list[float]]:
    """What the parts of one command took, in a process of its own."""
    report = folder / "report.json"
    command = [sys.executable, str(Path(__file__).resolve()), "--child", str(report), *words]
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    clock, after = time.perf_counter() - began, os.times()
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    spent: dict[str, list[float]] = json.loads(report.read_text(encoding="utf-8"))
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    inside = [sum(values[at] for values in spent.values()) for at in range(2)]
    spent["Python's start and end"] = [used - inside[0], clock - inside[1]]
    return spent


def median(runs: list[dict[str, list[float]]], part: str, at: int) -> float:
    """The median of a part over runs; 0 where a run did without it."""
    return statistics.median(run.get(part, [0.0, 0.0])[at] for run in runs)


def main() -> None:
    """Measure and print the table."""
    if sys.argv[1:2] == ["--child"]:
        sys.exit(child(sys.argv[3:], Path(sys.argv[2])))
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=640, help="rows to train on (20 steps)")
    options.add_argument("--validation", type=int, default=64, help="rows to choose the epoch by")
    options.add_argument("--repeat", type=int, default=3, help="runs of each kind")
    chosen = options.parse_args()
    data = Path(os.environ["PTV2_DATA"]) / "superglue" / "RTE"
    first, later = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        for turn in range(chosen.repeat):
            environment["PTV2_CACHE"] = str(folder / f"cache{turn}")
            for kind in (first, later):
                words = ["train", str(ROOT / "configs" / "rte-minilm.yaml"), "--epochs", "1"]
                words += ["--set", f"task.data={data}", "--offline", "--device", "cpu"]
                words += ["--set", f"task.limit.train={chosen.rows}"]
                words += ["--set", f"task.limit.validation={chosen.validation}"]
                words += ["--output", str(folder / f"runs{turn}-{len(first)}-{len(later)}")]
                kind.append(measured(words, folder, environment))
    parts = dict.fromkeys(part for run in (*first, *later) for part in run)
    order = sorted(parts, key=lambda part: -median(later, part, 0))
    print("| part | first run, processor s | clock s | later run, processor s | clock s |")
    print("|---|---|---|---|---|")
    for part in order:
        cells = [f"{median(kind, part, at):.2f}" for kind in (first, later) for at in range(2)]
        print(f"| {part} | {' | '.join(cells)} |")
    sums = [
        statistics.median(sum(values[at] for values in run.values()) for run in kind)
        for kind in (first, later)
        for at in range(2)
    ]
    print(f"| **all** | {' | '.join(f'{value:.2f}' for value in sums)} |")


if __name__ == "__main__":
    main()
