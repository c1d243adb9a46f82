"""`ptv2 sweep --lanes` that is killed or stopped, and the same command again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2

GRID = ("--prompt-len", "2,4,5", "--seed", "11,12")
# Signals itself after the N-th step of the whole command; all lanes are saved after every step.
SIGNALLED = """
import os, sys
from ptv2_cli.runs import trainer, training
trainer.SAVE_SECONDS = -1.0
note, save, steps = training.TrainingRun.after_step, trainer.Trainer._save_all, 0
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
training.TrainingRun.after_step = after_step
trainer.Trainer._save_all = save_and_die
from ptv2_cli.cli.app import main
main()
"""


@pytest.fixture
def config(material: Material) -> Path:
    train = {"steps": 6, "batch_size": 4, "lr": 0.01, "eval_every": 2}
    backbone = {"name": str(material.bert), "dropout": "off"}
    return material.write(Path("config.yaml"), train=train, backbone=backbone)


def signalled(step: int, number: signal.Signals, *words: str) -> subprocess.CompletedProcess[str]:
    code = SIGNALLED.format(step=step, number=int(number))
    return subprocess.run(
        [sys.executable, "-c", code, "sweep", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def statuses() -> list[str]:
    (folder,) = Path("runs/sweeps").iterdir()
    content = json.loads((folder / "results.json").read_text())
    return [trial["status"] for trial in content["trials"].values()]


def same_as(whole: Path) -> None:
    """Every run ends as the one that ran through."""
    runs = sorted(whole.glob("config-*"))
    assert len(runs) == 6
    for run in runs:
        twin = Path("runs") / run.name
        losses = [line["train_loss"] for line in lines(run / "history.jsonl")]
        found = [line["train_loss"] for line in lines(twin / "history.jsonl")]
        assert found == pytest.approx(losses, rel=1e-4)
        for one, other in zip(
            lines(run / "predictions/validation.jsonl"),
            lines(twin / "predictions/validation.jsonl"),
            strict=True,
        ):
            assert one["label"] == other["label"]
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-3)


@pytest.mark.parametrize(
    ("before", "after", "step", "ended", "going"),
    [
        ("3", "3", 9, 0, 3),  # the third step of the first three
        ("4", "2", 12, 0, 4),
        ("2", "6", 18, 2, 2),  # two have ended
        ("3", "1", 12, 0, 3),
    ],
)
def test_killed_and_continued(
    before: str, after: str, step: int, ended: int, going: int, config: Path, ptv2: Ptv2
) -> None:
    whole = ptv2("sweep", *GRID, "--output", "whole")
    assert whole.code == 0, whole.err
    killed = signalled(step, signal.SIGKILL, *GRID, "--lanes", before)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert statuses() == ["finished"] * ended + ["running"] * going + ["waiting"] * (
        6 - ended - going
    )
    at = step // going - 6 * ended // going
    earlier = {
        path.parent.name: path.read_text() for path in Path("runs").glob("config-*/history.jsonl")
    }
    again = ptv2("sweep", *GRID, "--lanes", after)
    assert again.code == 0, again.err
    assert f"{going} to continue" in again.err
    told = re.findall(r"resumed at step (\d+) of 6", again.err)
    assert told == [str(at)] * going
    for name, text in earlier.items():  # evaluations made before it are kept, times included
        assert (Path("runs") / name / "history.jsonl").read_text().startswith(text)
    assert all(earlier.values())
    same_as(Path("whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_continued(number: signal.Signals, config: Path, ptv2: Ptv2) -> None:
    whole = ptv2("sweep", *GRID, "--output", "whole", "--lanes", "6")
    assert whole.code == 0, whole.err
    stopped = signalled(10, number, *GRID, "--lanes", "3")
    assert stopped.returncode == 128 + number, stopped.stderr
    told = re.sub(r"\s+", " ", stopped.stderr)
    assert "interrupted; 3 runs are saved" in told
    assert "interrupted; 0 of 6 trials are done and kept" in told
    assert told.count("-> the same command continues it") == 1
    assert "Traceback" not in told
    assert statuses() == ["interrupted"] * 3 + ["waiting"] * 3
    saved = [json.loads(path.read_text()) for path in Path("runs").glob("*/checkpoints/last.json")]
    assert [one["state"]["progress"]["step"] for one in saved] == [4] * 3
    again = ptv2("sweep", *GRID, "--lanes", "2")
    assert again.code == 0, again.err
    assert again.err.count("resumed at step 4 of 6") == 3
    same_as(Path("whole"))
