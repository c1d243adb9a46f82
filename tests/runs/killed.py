"""Train or predict in processes of their own, some of which kill themselves on the way.

`python killed.py PLANS`: a JSON list of {config, output, sets, resume, ...}. Each plan runs in a
fork of this process and says when it is killed: at `step` N, or at the `fsync`-th fsync (which
falls before and after each rename of a checkpoint). `logits` saves the best weights' predictions
instead of training. Prints one line of JSON per plan: the signal that ended it, or null.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import tiny
import torch
from safetensors.torch import save_file
from transformers import BertModel  # noqa: F401 - once for all forks

from ptv2_cli.runs import trainer
from ptv2_cli.scoring import evaluate_metrics  # noqa: F401 - likewise
from ptv2_cli.training.events import StepDone


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(plan: dict[str, Any]) -> None:
    session = tiny.opened(Path(plan["config"]), Path(plan["output"]), *plan.get("sets", ()))
    if "logits" in plan:
        session.load_best()
        outputs = session.predictor(session.data.features("validation"))
        found = torch.stack([torch.as_tensor(row["probabilities"]) for row in outputs])
        save_file({"probabilities": found}, plan["logits"])
        return
    trainer.SAVE_SECONDS = plan.get("save_seconds", 0.0)
    steps = 0

    def listen(event: Any) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if steps == plan.get("step"):
            die()

    synced, sync = 0, os.fsync

    def fsync(file: int) -> None:
        nonlocal synced
        synced += 1
        if synced == plan.get("fsync"):
            die()
        sync(file)

    os.fsync = fsync
    sinks = [lambda run: tiny.Follower(listen)]
    trainer.train(session, sinks, resume=plan.get("resume", False))


if __name__ == "__main__":
    for one in json.loads(sys.argv[1]):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                main(one)
                code = 0
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        ended = os.waitstatus_to_exitcode(status)
        line = json.dumps(-ended if ended < 0 else None if ended == 0 else f"exit {ended}")
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
