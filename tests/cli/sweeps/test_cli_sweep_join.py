"""`ptv2 sweep --join`: two commands at once, one that is killed, and what excludes what."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import forked
import pytest
from commandline import Material, Ptv2
from killing import SIGNALLED, statuses

GRID = ("--prompt-len", "2,4,5", "--seed", "11,12")
# A command that looks often, and writes down which runs it trains or goes on with.
NOTING = """
from ptv2_cli.runs import recorder
from ptv2_cli.sweeps import join, membership
join.LOOK_SECONDS, membership.BEAT_SECONDS, membership.STALE_SECONDS = 0.05, 0.2, {stale}
begin = recorder.RunRecorder.begin
def noted(self, *words, **options):
    with open("trained.txt", "a") as file:
        file.write(self.directory.path.name + "\\n")
    begin(self, *words, **options)
recorder.RunRecorder.begin = noted
"""
MAIN = "from ptv2_cli.cli.app import main\nmain()\n"


@pytest.fixture(autouse=True)
def _config(material: Material) -> None:
    train = {"steps": 6, "batch_size": 4, "lr": 0.01, "eval_every": 2}
    material.write(Path("config.yaml"), train=train)


def trained() -> list[str]:
    return Path("trained.txt").read_text().split()


def test_two_commands_train_every_trial_once(ptv2: Ptv2) -> None:
    code = NOTING.format(stale=60) + MAIN
    one, other = (forked.begin("sweep", *GRID, "--join", code=code) for _ in range(2))
    out, err = one.communicate()
    other_out, other_err = other.communicate()
    assert (one.returncode, other.returncode) == (0, 0), (err, other_err)
    assert len(trained()) == len(set(trained())) == 6
    assert statuses() == ["finished"] * 6
    for text in (out, other_out):  # both show the whole table
        assert len(re.findall(r"^ *[245] +[\d.]+ +[\d.]+ +2", text, re.M)) == 3, text
    assert not list(Path("runs/sweeps").glob("*/join"))
    assert "6 finished" in ptv2("sweep", *GRID, "--dry-run").out


def test_the_trials_of_a_killed_command_go_to_the_others(ptv2: Ptv2) -> None:
    code = NOTING.format(stale=2) + SIGNALLED.format(step=9, number=int(signal.SIGKILL))
    assert forked.finish("sweep", *GRID, "--join", code=code).returncode == -signal.SIGKILL
    before = trained()
    finished = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/metrics.json")}
    assert (len(before), len(finished)) == (2, 1)
    told = ptv2("sweep", *GRID)  # it may live
    assert told.code == 2
    assert "share its trials" in told.err
    done = forked.finish("sweep", *GRID, "--join", code=NOTING.format(stale=2) + MAIN)
    assert done.returncode == 0, done.stderr
    assert statuses() == ["finished"] * 6
    assert sorted(trained()) == sorted([*set(trained()), before[1]])
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert "resumed at step 3" in done.stderr or "step 3" in done.stderr
