"""How many threads compute and how they wait: chosen, typed, kept by a run that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ptv2_cli import evaluate, load, threads, train
from ptv2_cli.cli.app import run as run_command
from ptv2_cli.errors import ConfigError, Interrupted
from ptv2_cli.training.events import StepDone, Warned

CORES = {0, 1, 2, 3}


@pytest.fixture(autouse=True)
def _count_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test chooses anew, and leaves the process with the count that it had."""
    for name in ("_began", "_standing"):
        monkeypatch.setattr(threads, name, None)
    monkeypatch.setattr(threads, "_typed", False)
    with threads.count_restored():
        yield


# How threads wait


def waiting(code: str, **variables: str) -> str:
    """What OpenMP says of its settings when a program loads it."""
    clean = {k: v for k, v in os.environ.items() if k not in threads._WAITING}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "OMP_DISPLAY_ENV": "verbose", **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch's OpenMP does not show its settings")
    return done.stderr


@pytest.mark.parametrize(
    ("code", "variables", "sleep"),
    [
        ("import ptv2_cli, torch", {}, True),
        ("import ptv2_cli.cli.app, torch", {}, True),
        ("import ptv2_cli, torch", {"OMP_WAIT_POLICY": "active"}, False),
        ("import torch", {}, False),
    ],
)
def test_waiting_threads_sleep(code: str, variables: dict[str, str], sleep: bool) -> None:
    # It says PASSIVE by default too, and spins 300,000 times.
    assert ("GOMP_SPINCOUNT = '0'" in waiting(code, **variables)) is sleep


@pytest.mark.parametrize("name", threads._WAITING)
def test_a_choice_of_the_user_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in threads._WAITING:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "100")
    monkeypatch.delitem(sys.modules, "torch")
    threads.wait_passively()
    assert {key: os.environ.get(key) for key in threads._WAITING if key in os.environ} == {
        name: "100"
    }


def test_nothing_is_set_once_torch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads._WAITING:
        monkeypatch.delenv(name, raising=False)
    threads.wait_passively()
    assert "OMP_WAIT_POLICY" not in os.environ


# How many are free


def moments(monkeypatch: pytest.MonkeyPatch, seconds: float, own: float, **later: Any) -> None:
    """Let `seconds` pass on four cores, in which this process computes `own` seconds."""
    quota, used = later.get("quota"), later.get("used", 0.0)

    def limit(taken: float) -> Any:
        return None if quota is None else threads._Quota(quota, 40.0 + taken)

    states = [
        threads._Moment(100.0, 50.0, 7.0, limit(0.0)),
        threads._Moment(100.0 + seconds, 50.0 + later["busy"], 7.0 + own, limit(used)),
    ]
    monkeypatch.setattr(threads, "_allowed", lambda: CORES)
    monkeypatch.setattr(threads, "_now", lambda: states.pop(0))
    threads.begin()


@pytest.mark.parametrize(
    ("busy", "own", "free"),
    [
        (3.0, 3.0, 4),  # nobody but this process
        (3.2, 3.0, 4),  # the system's daemons
        (6.0, 3.0, 3),
        (8.8, 3.0, 2),
        (12.0, 1.0, 1),  # all of them are busy
        (1.0, 3.0, 4),  # clocks of different coarseness
    ],
)
def test_free_cores(busy: float, own: float, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    moments(monkeypatch, 3.0, own, busy=busy)
    assert threads.free_cores() == free


@pytest.mark.parametrize(
    ("quota", "used", "free"),
    [(2.0, 3.0, 2), (2.0, 6.0, 1), (0.5, 1.5, 1), (16.0, 3.0, 4)],
)
def test_a_quota_limits_them(
    quota: float, used: float, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments(monkeypatch, 3.0, 3.0, busy=3.0, quota=quota, used=used)
    assert threads.free_cores() == free


def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_now", lambda: None)
    monkeypatch.setattr(threads, "_allowed", lambda: CORES)
    threads.begin()
    assert threads.free_cores() == 4


@pytest.mark.parametrize("version", [1, 2])
def test_quotas_of_control_groups(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_GROUPS", tmp_path)
    group = tmp_path / "job" if version == 2 else tmp_path / "cpu" / "job"
    group.mkdir(parents=True)
    if version == 2:
        (group / "cpu.max").write_text("150000 100000\n")
        (group / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 2000000\n")
        (tmp_path / "cpu.max").write_text("max 100000\n")
        assert threads._second_version(tmp_path) is None
    else:
        (group / "cpu.cfs_quota_us").write_text("150000\n")
        (group / "cpu.cfs_period_us").write_text("100000\n")
        (group / "cpuacct.usage").write_text("2500000000\n")
    line = "0::/job/step" if version == 2 else "3:cpu,cpuacct:/job"
    assert threads._quota_of(["7:memory:/x", line]) == threads._Quota(1.5, 2.5)
    assert threads._quota_of(["7:memory:/x"]) is None


# Which count is taken


def test_the_choice_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    free, asked = [2, 1], []
    monkeypatch.setattr(threads, "free_cores", lambda: asked.append(1) or free.pop(0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    for typed in (None, 5, None):
        threads.use_threads(typed)
    assert taken == [2, 5, 2]
    assert len(asked) == 1


def test_no_more_than_torch_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "free_cores", lambda: 16)  # logical cores, two for each real one
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    torch.set_num_threads(2)
    threads.use_threads(None)
    assert torch.get_num_threads() == 2


def test_the_variable_wins_over_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "free_cores", lambda: 1)
    monkeypatch.setenv(threads.VARIABLE, "2")
    torch.set_num_threads(2)  # as OpenMP does when it reads the variable
    threads.use_threads(None)
    assert torch.get_num_threads() == 2
    threads.use_threads(3)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("count", [0, -1, threads.MOST + 1, True, "2", 1.0])
def test_no_number_of_threads(count: Any) -> None:
    for call in (train, evaluate, load):
        with pytest.raises(ConfigError, match=r"(?s)threads.*is no number of threads.*threads=\d"):
            call("nowhere", threads=count)


@pytest.mark.parametrize("command", ["train", "sweep", "eval", "predict", "import", "export"])
@pytest.mark.parametrize("count", ["0", "two"])
def test_commands_refuse_it(
    command: str,
    count: str,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(config.parent)
    words: dict[str, list[str]] = {
        "train": [str(config)],
        "sweep": [str(config), "--lr", "1e-2,2e-2"],
        "predict": [str(config)],
        "import": ["x", "--from", "peft", "--config", str(config)],
        "export": ["x", "y", "--to", "peft"],
    }
    assert run_command([command, *words.get(command, []), "--threads", count]) == 2
    said = capsys.readouterr().err
    assert "--threads" in said
    assert "Traceback" not in said
    assert torch.get_num_threads() == 1


# Runs that go on


@pytest.fixture(scope="module")
def config(folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("threads")
    data = tiny.write_rte(folder / "rte", train=8, validation=4)
    return tiny.write_config(folder / "c.yaml", folder_of("bert"), data)


def interrupted(config: Path, output: Path, count: int) -> None:
    """A run that computes with `count` threads and is stopped after a step."""

    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    with threads.count_restored():
        torch.set_num_threads(count)
        with pytest.raises(Interrupted):
            tiny.trained(config, output, listen=stop)


def test_a_run_goes_on_with_the_count_that_it_began_with(config: Path, tmp_path: Path) -> None:
    interrupted(config, tmp_path, 2)
    threads.use_threads(None)
    counts: list[int] = []
    told: list[str] = []

    def listen(event: Any) -> None:
        if isinstance(event, StepDone):
            counts.append(torch.get_num_threads())
        if isinstance(event, Warned):
            told.append(event.text)

    _, metrics = tiny.trained(config, tmp_path, resume=True, listen=listen)
    assert counts
    assert set(counts) == {2}
    assert metrics["environment"]["threads"] == 2
    assert torch.get_num_threads() == 1
    assert not any("threads" in text for text in told)


def test_a_typed_count_wins_and_is_told(config: Path, tmp_path: Path) -> None:
    interrupted(config, tmp_path, 2)
    threads.use_threads(1)
    _, metrics = tiny.trained(config, tmp_path, resume=True)
    assert metrics["environment"]["threads"] == 1
    (line,) = [text for text in metrics["warnings"] if "thread" in text]
    assert line.startswith("goes on with 1 thread, and began with 2 threads")


def test_scores_again_with_the_count_of_the_run(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(config, output=tmp_path, threads=2, device="cpu", offline=True)
    assert run.metrics["environment"]["threads"] == 2
    from ptv2_cli.runs.session import Session

    counts: list[int] = []
    original = Session.evaluate

    def spy(self: Session, *arguments: Any) -> Any:
        counts.append(torch.get_num_threads())
        return original(self, *arguments)

    monkeypatch.setattr(Session, "evaluate", spy)
    assert evaluate(run, device="cpu", offline=True) == run.metrics["metrics"]
    evaluate(run, device="cpu", offline=True, threads=3)
    assert counts == [2, 3]


def test_other_threads_may_change_scores(config: Path, tmp_path: Path) -> None:
    """Scores of another count are compared, but a difference is no defect."""
    from ptv2_cli.runs.rescore import open_for_rescoring

    run = train(config, output=tmp_path, threads=2, device="cpu", offline=True)
    for typed, exact in ((None, True), (2, True), (1, False)):
        threads.use_threads(typed)
        again = open_for_rescoring(
            run.files, split=None, data=None, device=torch.device("cpu"), offline=True
        )
        assert again.exact is exact
