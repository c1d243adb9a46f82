#!/usr/bin/env python3
"""The floor of a whole run: as many of its steps, on the same batches, and nothing else.

`peers.py whole` starts it; its options are those of `peers_trainer.py`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import peers_task
from phases import Phases


def main() -> None:
    """Take the steps of the run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    peers_task.add_options(parser, rows=1200)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="in place of --epochs")
    parser.add_argument("--phases", type=Path, required=True)
    asked = peers_task.finish(parser, parser.parse_args())
    phases = Phases()
    import peers_sides

    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "rte.yaml")
        peers_task.write_config(config, asked, {"epochs": asked.epochs})
        material = peers_sides.material(config)
        step = peers_sides.floor("fp32")(material)
        phases.end("start")
        for number in range(asked.steps or asked.epochs * len(material.sorted_batches)):
            step(number)
            phases.end("steps")
    phases.end("end")
    phases.write(asked.phases, score=None)


if __name__ == "__main__":
    main()
