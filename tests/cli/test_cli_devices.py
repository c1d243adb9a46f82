"""`ptv2 train --devices N` and torchrun: what is refused, and a run that is stopped and goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import forked
import pytest
from commandline import Material, Ptv2, Refused, only_run

STEPS = 300
SECOND = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}
"""What torchrun sets in the second of two processes."""


@pytest.fixture
def config(material: Material) -> Path:
    train = {"steps": STEPS, "batch_size": 4, "lr": 0.01, "eval_every": 20}
    return material.write(Path("config.yaml"), train=train)


def test_more_devices_than_rows(config: Path, refused: Refused) -> None:
    says = "train.batch_size 4 has no row for each of 5 devices"
    result = refused("train", "--devices", "5", says=[says])
    assert "config.yaml:" in result.err
    assert "--devices 4, or --batch-size 5" in result.err


def test_no_device(config: Path, ptv2: Ptv2) -> None:
    result = ptv2("train", "--devices", "0")
    assert result.code == 2
    assert "--devices" in result.err


def test_as_many_devices_as_torchrun_started(
    config: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SECOND, "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    refused("train", "--devices", "3", says=["3 devices, and torchrun started 2 processes"])


def test_other_commands_work_in_one_process(
    config: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SECOND, "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    says = "ptv2 sweep: works in one process, and 2 were started"
    refused("sweep", "--prompt-len", "2,3", says=[says])


def test_gpus_that_are_not_there(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from ptv2_cli.distributed.rank import Rank
    from ptv2_cli.errors import ConfigError
    from ptv2_cli.runs.environment import choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device("auto", Rank(3, 4, 1, 2)) == torch.device("cuda:1")
    assert chosen == [torch.device("cuda:1")]
    with pytest.raises(ConfigError, match="4 GPUs are not on this machine: torch sees 2"):
        choose_device("auto", Rank(0, 4, 0, 4))
    with pytest.raises(ConfigError, match="cuda:1 is one GPU, and 2 processes train"):
        choose_device("cuda:1", Rank(0, 2, 0, 2))
    assert choose_device("cpu", Rank(0, 4, 0, 4)) == torch.device("cpu")


def second_process(code: str = "") -> forked.Command:
    """A command with wrong input in the second process of two that torchrun has started."""
    environment = "".join(f"os.environ[{name!r}] = {value!r}; " for name, value in SECOND.items())
    program = f"import os; {environment}{code}{forked.MAIN}"
    return forked.begin("train", "--set", "prompt_len=-1", code=program)


def test_another_process_leaves_it_to_rank_0_to_say_what_is_wrong(config: Path) -> None:
    """torchrun ends all when the first has ended: rank 0 would not come to say it."""
    waits = (
        "from ptv2_cli.cli import ranks; import sys, types; ranks.time = types.SimpleNamespace("
        "sleep=lambda seconds: (os.write(1, b'%d\\n' % seconds), sys.stdin.read())); "
    )
    process = second_process(waits)
    assert process.stdout.readline() == "60\n"
    process.send_signal(signal.SIGTERM)  # what torchrun does
    out, err = process.communicate()
    assert (process.returncode, out, err) == (-signal.SIGTERM, "", "")


def test_an_error_that_rank_0_does_not_have_is_told(config: Path) -> None:
    process = second_process("from ptv2_cli.cli import ranks; ranks.SAME_SECONDS = 0; ")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: rank 1: --set prompt_len: ")


def test_ctrl_c_saves_and_one_device_goes_on(config: Path, ptv2: Ptv2) -> None:
    process = forked.begin("train", "--devices", "2")
    for line in process.stderr:
        if line.startswith("epoch "):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    run = only_run()
    assert (process.returncode, out) == (130, "")
    assert err.count(f"{run}: interrupted; the run is saved") == 1
    assert "rank 1" not in err
    assert "Traceback" not in err
    assert not (run / ".lock").exists()
    state = json.loads((run / "checkpoints" / "last.json").read_text())["state"]
    step = state["progress"]["step"]
    assert 0 < step < STEPS
    again = ptv2("train")
    assert again.code == 0, again.err
    assert f"resumed at step {step} of {STEPS} steps" in again.err
    assert json.loads((run / "metrics.json").read_text())["environment"]["devices"] == 1
