"""Ctrl-C and SIGTERM in a process of its own, and what the same command does afterwards."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import forked
import pytest
from commandline import Material, Ptv2, only_run

from ptv2_cli.runs.trainer import Trainer

STEPS, EVERY = 200, 20
NOHUP = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); {forked.MAIN}"
IN_TERMINAL = f"""
import fcntl, os, sys, termios
os.setsid()
terminal = os.open(sys.argv.pop(), os.O_RDWR)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)  # its own process: closing it sends SIGHUP
for stream in range(3):
    os.dup2(terminal, stream)
os.close(terminal)
{forked.MAIN}
"""


def begin(code: str = forked.MAIN) -> forked.Command:
    """`ptv2 train` as its own process, after its first evaluation."""
    process = forked.begin("train", code=code)
    for line in process.stderr:
        if line.startswith("epoch "):
            return process
    raise AssertionError("it ended before its first evaluation")


def stopped(number: signal.Signals, code: int) -> Path:
    """Signal a run that trains; its directory, saved and unfinished."""
    process = begin()
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == code
    run = only_run()
    assert f"{run}: interrupted; the run is saved" in err
    assert "-> the same command continues it" in err
    assert "Traceback" not in err
    assert out == ""
    assert not (run / "metrics.json").exists()
    assert not list(run.rglob("*.tmp"))
    return run


@pytest.fixture
def config(material: Material) -> Path:
    train = {"steps": STEPS, "batch_size": 4, "lr": 0.01, "eval_every": EVERY}
    return material.write(Path("config.yaml"), train=train)


def test_ctrl_c_saves_and_the_same_command_goes_on(config: Path, ptv2: Ptv2) -> None:
    run = stopped(signal.SIGINT, 130)
    unfinished = ptv2("eval", run)
    assert unfinished.code == 2
    assert "the run has not finished" in unfinished.err

    again = ptv2("train")
    assert again.code == 0, again.err
    assert "resumed at step " in again.err
    assert f" of {STEPS} steps" in again.err
    assert again.out.startswith("superglue/rte validation: accuracy ")
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == list(range(EVERY, STEPS + 1, EVERY))
    assert ptv2("eval").out.endswith("equal\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_sigterm_and_sighup_save(
    number: signal.Signals, code: int, config: Path, ptv2: Ptv2
) -> None:
    run = stopped(number, code)
    assert (run / "checkpoints" / "last.json").exists()
    assert "resumed at step" in ptv2("train").err


def test_a_closed_terminal_saves(config: Path, ptv2: Ptv2) -> None:
    ours, theirs = os.openpty()
    process = forked.begin("train", os.ttyname(theirs), code=IN_TERMINAL)
    shown = b""
    while b"accuracy" not in shown:
        shown += os.read(ours, 1000)
    os.close(theirs)
    os.close(ours)
    process.communicate()
    assert process.returncode == 129
    saved = json.loads((only_run() / "checkpoints" / "last.json").read_text())
    assert EVERY <= saved["state"]["progress"]["step"] < STEPS
    assert f"resumed at step {saved['state']['progress']['step']} of" in ptv2("train").err


def test_nohup_trains_on(config: Path) -> None:
    process = begin(NOHUP)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.startswith("superglue/rte validation: accuracy ")


@pytest.mark.parametrize(
    ("words", "second", "code"),
    [
        (("train",), signal.SIGTERM, 143),
        (("sweep", "--seed", "11,12", "--lanes", "2"), signal.SIGINT, 130),
    ],
)
def test_a_second_signal_stops_at_once(
    words: tuple[str, ...], second: int, code: int, config: Path, ptv2: Ptv2,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    save_all = Trainer._save_all

    def signalled(self: Trainer) -> None:
        save_all(self)
        signal.raise_signal(signal.SIGTERM)  # the first: it only asks for an end
        signal.raise_signal(second)
        raise AssertionError("not reached")

    monkeypatch.setattr(Trainer, "_save_all", signalled)
    result = ptv2(*words)
    assert result.code == code
    assert "Traceback" not in result.err
    assert "interrupted" in result.err
    assert not list(Path("runs").rglob("metrics.json"))


def test_a_signal_before_training(
    material: Material, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ptv2_cli.runs.environment.choose_device", interrupted)
    material.write(Path("config.yaml"))
    result = ptv2("train")
    assert result.code == 130
    assert "Traceback" not in result.err
    assert not Path("runs").exists()
