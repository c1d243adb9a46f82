#!/usr/bin/env python3
"""The floor of a whole run: as many of its steps, on the same batches, and nothing else.

`peers.py whole` starts it; its options are those of `trainer.py`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import task
from phases import Phases


def main() -> None:
    """Take the steps of the run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    task.add_options(parser, rows=1200)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="in place of --epochs")
    parser.add_argument("--phases", type=Path, required=True)
    asked = task.finish(parser, parser.parse_args())
    phases = Phases()
    import sides

    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "rte.yaml")
        task.write_config(config, asked, {"epochs": asked.epochs})
        material = sides.material(config)
        step = sides.floor("fp32")(material)
        phases.end("start")
        for number in range(asked.steps or asked.epochs * len(material.sorted_batches)):
            step(number)
            phases.end("steps")
    phases.end("end")
    phases.write(asked.phases, score=None)


if __name__ == "__main__":
    main()
