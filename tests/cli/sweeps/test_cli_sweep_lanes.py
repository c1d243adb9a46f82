"""`ptv2 sweep --lanes` as a user meets it, up to where the engine begins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2, Refused

from ptv2_cli.sweeps import capacity
from ptv2_cli.sweeps.engines.local import LocalEngine

GRID = ("--prompt-len", "2,4", "--grid", "task.max_len=24,16,20")


@pytest.fixture
def config(material: Material) -> Path:
    return material.write(Path("config.yaml"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Runs and lanes of the groups that the engine forms; it trains nothing."""
    found: list[Any] = []

    def run(engine: LocalEngine, trials: Sequence[Any], monitor: Any) -> Iterator[Any]:
        found.append([(len(group.runs), group.lanes) for group in engine._groups])
        yield from ()

    monkeypatch.setattr(LocalEngine, "run", run)
    monkeypatch.setattr(capacity, "_rate", lambda lanes: float(len(lanes)))
    return found


def test_the_engine_is_given_the_number(config: Path, ptv2: Ptv2, asked: list[Any]) -> None:
    for words, groups in (
        ([], [(1, 1)] * 3),
        (["--lanes", "2"], [(3, 2)]),
        (["--lanes", "auto"], [(3, 3)]),
    ):
        assert ptv2("sweep", "--prompt-len", "2,4,6", *words).code == 0
        assert asked.pop() == groups


def test_the_section_says_it_too(material: Material, ptv2: Ptv2, asked: list[Any]) -> None:
    material.write(Path("config.yaml"), sweep={"lanes": "auto", "prompt_len": [2, 4]})
    result = ptv2("sweep")
    assert result.code == 0, result.err
    assert "2 trials on one backbone, 2 at once: 2.0 times as fast as one by one" in result.err
    ptv2("sweep", "--lanes", "1")
    assert asked == [[(2, 2)], [(1, 1), (1, 1)]]


def test_the_plan_says_who_can_share(config: Path, ptv2: Ptv2, asked: list[Any]) -> None:
    result = ptv2("sweep", *GRID, "--grid", "method=ptuning_v2,finetune", "--dry-run")
    assert "6 of 9 trials can share 3 backbones: --lanes auto" in result.out
    result = ptv2("sweep", "--prompt-len", "2,4", "--dry-run")
    assert "2 of 2 trials can share one backbone: --lanes auto" in result.out
    result = ptv2("sweep", "--prompt-len", "2,4", "--lanes", "auto", "--dry-run")
    assert "2 trials on one backbone, 2 at once" in result.out
    result = ptv2("sweep", "--prompt-len", "2,4", "--lanes", "1", "--dry-run")
    assert "share" not in result.out
    words = ["--set", "method=finetune", "--lr", "1e-4,1e-3", "--dry-run"]
    assert "share" not in ptv2("sweep", *words).out
    result = ptv2("sweep", *words, "--lanes", "auto")
    assert "no two trials can share a backbone: they run one by one" in result.out


def test_nothing_is_said_of_trials_that_are_done(config: Path, ptv2: Ptv2) -> None:
    ptv2("sweep", "--prompt-len", "2")
    assert "share" not in ptv2("sweep", "--prompt-len", "2,4").err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--lanes", "x"], ["--lanes: 'x' is neither a number nor auto"]),
        (["--lanes", "0"], ["--lanes: 0 lanes cannot train anything"]),
        (["--lanes=-2"], ["--lanes: -2 lanes cannot train anything"]),
        (
            ["--lanes", "3"],
            ["--lanes 3: trials differ in task.max_len (24, 16, 20)",
             "-> --lanes auto groups the trials that can share"],
        ),
    ],
)  # fmt: skip
def test_refused(words: list[str], says: list[str], config: Path, refused: Refused) -> None:
    result = refused("sweep", *GRID, *words, says=[])
    told = re.sub(r"\s+", " ", result.err)  # lines are broken at the terminal's width
    assert all(text in told for text in says), result.err


def test_finetuning_in_lanes_is_refused(material: Material, ptv2: Ptv2) -> None:
    lists = {"lanes": 4, "grid": {"method": ["ptuning_v2", "finetune"]}}
    material.write(Path("config.yaml"), sweep=lists)
    result = ptv2("sweep")
    told = re.sub(r"\s+", " ", result.err)
    assert result.code == 2
    assert re.search(r"config.yaml:\d+: method: finetune trains the backbone", told)
    assert "-> sweep: {lanes: auto} groups the trials that can share" in told
    assert not Path("runs").exists()


def test_check_of_a_config_with_lanes(material: Material, ptv2: Ptv2, refused: Refused) -> None:
    material.write(Path("config.yaml"), sweep={"lanes": 2, "prompt_len": [2, 4]})
    result = ptv2("check")
    assert result.code == 0, result.err
    assert "sweep: 2 trials of prompt_len 2, 4" in result.out
    material.write(Path("config.yaml"), sweep={"lanes": "auto"})  # the flags give the lists
    assert ptv2("check").code == 0
    assert ptv2("sweep", "--prompt-len", "2,4", "--dry-run").code == 0
    refused("sweep", says=["nothing to sweep"])
    refused("train", says=["type ptv2 sweep config.yaml", "--unset sweep"])
    for lists in ({"lanes": 0}, {"lanes": "x", "prompt_len": [2]}):
        material.write(Path("config.yaml"), sweep=lists)
        refused("check", says=["sweep.lanes must be auto or a whole number"])


def test_more_lanes_than_memory_takes(
    config: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "free_bytes", lambda device: 200_000)
    result = refused("sweep", "--prompt-len", "2,3,4,5,6,7,8,9", "--lanes", "8", says=[])
    told = re.sub(r"\s+", " ", result.err)
    found = re.search(r"--lanes 8: 8 lanes would take about .* are free: (\d+) fit", told)
    assert found is not None, told
    assert f"-> --lanes {found[1]}, or --lanes auto" in told
    assert not Path("runs").exists()
