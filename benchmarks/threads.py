#!/usr/bin/env python3
"""`ptv2 train` beside other work: threads that spin and threads that sleep while they wait.

    PTV2_DATA=FOLDER python benchmarks/threads.py [--busy 0,1,2,10] [--epochs N] [--rows N]

CB with MiniLM (configs/cb-minilm.yaml), alone and beside processes that compute all the time (the
numbers of --busy), by the real command in a process of its own. The ways: `active` and `passive`
set OMP_WAIT_POLICY, `default` is what OpenMP does where nothing is set (it spins 300,000 times
before it sleeps), each with one thread and with two, and `ptv2` is the command as a user types it,
which sets the policy and chooses the threads itself. The
ways take turns beside the same work. *Step seconds* are `train_seconds` of metrics.json;
*processor seconds* and *whole* are of the whole command, with its start and its evaluation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "import sys; from ptv2_cli.cli.app import main; sys.exit(main())"
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

POLICIES = {
    "default": {"GOMP_SPINCOUNT": "300000"},
    "active": {"OMP_WAIT_POLICY": "active"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}


@dataclass(frozen=True)
class Way:
    """How the command computes."""

    policy: str | None
    threads: int | None

    @property
    def name(self) -> str:
        """The start of a line."""
        return "ptv2" if self.policy is None else f"{self.policy}, {self.threads} threads"


WAYS = (
    *(Way(policy, count) for policy in POLICIES for count in (2, 1)),
    Way(None, None),
)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.2 if others else 0.0)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measured(way: Way, rows: int, epochs: int, folder: Path) -> str:
    """The cells of one run."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment["PYTHONPATH"] = str(ROOT)
    if way.policy is not None:
        environment |= POLICIES[way.policy]
    data = Path(os.environ["PTV2_DATA"]) / "superglue" / "CB"
    command = [sys.executable, "-c", COMMAND, "train", str(ROOT / "configs" / "cb-minilm.yaml")]
    command += [f"--set=task.data={data}", f"--set=task.limit.train={rows}", f"--epochs={epochs}"]
    command += ["--offline", "--device", "cpu", "--output", str(folder), "--resume", "never"]
    command += [] if way.threads is None else ["--threads", str(way.threads)]
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    whole, after = time.perf_counter() - began, os.times()
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    (run,) = folder.iterdir()
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    steps, threads = metrics["timing"]["train_seconds"], metrics["environment"]["threads"]
    return f"{threads} | {steps:.1f} | {used:.1f} | {whole:.1f}"


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--busy", default="0,1,2,10", help="processes beside it, one table part each"
    )
    options.add_argument("--epochs", type=int, default=1)
    options.add_argument("--rows", type=int, default=250, help="rows to train on; CB has 250")
    chosen = options.parse_args()
    print("| beside | way | threads | step seconds | processor seconds | whole |")
    print("|---|---|---|---|---|---|")
    for count in map(int, chosen.busy.split(",")):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as folder, busy(count):
                cells = measured(way, chosen.rows, chosen.epochs, Path(folder))
            print(f"| {count} busy | {way.name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
