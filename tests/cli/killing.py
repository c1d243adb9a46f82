"""A `ptv2 sweep` that signals itself in the middle, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import forked

GRID = ("--prompt-len", "2,4", "--seed", "11,12")
# Signals itself after the N-th step of the whole command; every step is saved, and SIGKILL comes
# after the save.
SIGNALLED = """
import os
from ptv2_cli.runs import recorder, trainer
trainer.SAVE_SECONDS = -1.0
note, save, steps = recorder.RunRecorder.after_step, trainer.Trainer._save_all, 0
def after_step(self, event):
    global steps
    note(self, event)
    steps += 1
    if steps == {step} and {number} != 9:
        os.kill(os.getpid(), {number})
def save_and_die(self):
    save(self)
    if steps >= {step} and {number} == 9:
        os.kill(os.getpid(), 9)
recorder.RunRecorder.after_step = after_step
trainer.Trainer._save_all = save_and_die
from ptv2_cli.cli.app import main
main()
"""


def signalled(step: int, number: signal.Signals, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `ptv2 sweep` until it signals itself after that many steps."""
    code = SIGNALLED.format(step=step, number=int(number))
    return forked.finish("sweep", *words, code=code)


def sweep_folder(output: Path = Path("runs")) -> Path:
    """The one sweep's folder."""
    (folder,) = (output / "sweeps").iterdir()
    return folder


def sweep_results(output: Path = Path("runs")) -> dict[str, Any]:
    """The content of the one sweep's results.json."""
    content: dict[str, Any] = json.loads((sweep_folder(output) / "results.json").read_text())
    return content


def statuses() -> list[str]:
    """How the trials of the one sweep stand."""
    return [trial["status"] for trial in sweep_results()["trials"].values()]
