"""`ptv2 sweep --search` as a user meets it."""

from __future__ import annotations

import importlib.util
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from commandline import Material, Ptv2, Refused, tree
from killing import signalled, sweep_folder, sweep_results

from ptv2_cli.sweeps.engine import Forecast
from ptv2_cli.sweeps.engines.local import LocalEngine

pytest.importorskip("optuna")

RATES = "train.lr={log: [1e-3, 1e-1]}"
SEARCH = ["--search", "tpe", "--trials", "3", "--space", RATES]
LONGER = ["--unset", "train.steps", "--set", "train.epochs=3"]
SECTION: dict[str, Any] = {
    "search": "tpe",
    "trials": 3,
    "space": {"train.lr": {"log": [1e-3, 1e-1]}},
}


@pytest.fixture
def config(material: Material) -> Path:
    return material.write(Path("config.yaml"))


def test_flags_and_a_section_are_the_same_search(
    config: Path, material: Material, ptv2: Ptv2
) -> None:
    dry = ptv2("sweep", *SEARCH, "--prune", "hyperband", *LONGER, "--dry-run")
    assert dry.code == 0, dry.err
    assert not Path("runs").exists()
    assert "tpe, 3 trials" in dry.out
    assert "lr: 1e-3 to 1e-1, by logarithm" in dry.out
    assert "prune: hyperband, by up to 3 evaluations" in dry.out
    assert "a trial: an estimate from a few timed steps" in dry.err
    first = ptv2("sweep", *SEARCH)
    assert first.code == 0, first.err
    assert "trial 3 of 3: lr " in first.err
    assert "optuna-dashboard" in first.err
    assert "is the lowest that was tried" not in first.err
    found = sweep_results()
    assert [trial["status"] for trial in found["trials"].values()] == ["finished"] * 3
    assert yaml.safe_load((sweep_folder() / "best.yaml").read_text())["sweep"] is None
    before = tree(Path("runs"))
    material.write(Path("config.yaml"), sweep=SECTION)
    again = ptv2("sweep")
    assert again.code == 0
    assert "known from earlier commands: 3 finished" in again.err
    assert tree(Path("runs")).keys() == before.keys()
    assert ptv2("train", sweep_folder() / "best.yaml").code == 0


@pytest.mark.parametrize("step", [1, 4, 5])
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(
    step: int, config: Path, ptv2: Ptv2
) -> None:
    """Each trial has two steps: killed after the first step, the second trial, in the third."""
    killed = signalled(step, signal.SIGKILL, *SEARCH)
    assert killed.returncode == -signal.SIGKILL
    trained = {path: path.read_bytes() for path in Path("runs").glob("*/metrics.json")}
    assert ptv2("sweep", *SEARCH).code == 0
    assert ptv2("sweep", *SEARCH, "--output", "whole").code == 0

    def found(output: Path) -> tuple[list[Any], list[Any]]:
        plan = json.loads((sweep_folder(output) / "plan.json").read_text())["trials"]
        ends = sweep_results(output)["trials"]
        return plan, [(end["status"], end["value"]) for end in ends.values()]

    assert found(Path("runs")) == found(Path("whole"))
    assert all(path.read_bytes() == content for path, content in trained.items())


def test_check_looks_at_the_ends_of_the_space(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"), sweep={**SECTION, "space": {"prompt_len": {"int": [2, 8]}}})
    found = ptv2("check")
    assert found.code == 0, found.err
    assert "the ends of its space are 2 trials of prompt_len 2, 8" in found.out
    material.write(
        Path("config.yaml"), sweep={**SECTION, "space": {"prompt_len": {"int": [2, 99]}}}
    )
    assert "prompt_len 99 cannot run" in ptv2("check").err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--search", "tpa", "--trials", "3", "--space", RATES],
         ['search must be one of tpe, random, grid, not "tpa"', "did you mean tpe?"]),
        (["--search", "tpe", "--space", RATES], ["has no end", "--trials 20"]),
        (["--search", "tpe", "--trials", "3"], ["the space of the search is empty"]),
        (["--search", "tpe", "--trials", "3", "--seed", "1,2"], ["space of the search is empty"]),
        (["--search", "tpe", "--trials", "x", "--space", RATES], ["trials must be a whole number"]),
        (["--search", "tpe", "--time", "2", "--space", RATES], ["a duration such as 2h"]),
        ([*SEARCH, "--prune", "hyperbend"], ["prune must be one of hyperband, median"]),
        ([*SEARCH, "--prune", "median", "--seed", "1,2"], ["each setting has 2 seeds"]),
        ([*SEARCH, "--storage", "postgres"], ["must be the URL of a database"]),
        (["--space", RATES], ["train.lr has a range, which only a search can try"]),
        (["--prompt-len", "2,3", "--trials", "3"], ["trials belongs to a search"]),
        ([*SEARCH[:-1], "train.lr={log: [0, 1]}"], ["must begin above 0"]),
        ([*SEARCH[:-1], "train.lr={log: [1, 0.1]}"], ["must begin with the lower number"]),
        ([*SEARCH[:-1], "train.lr={lgo: [0.1, 1]}"], ["did you mean log?"]),
        ([*SEARCH[:-1], "train.lr=0.1"], ["must be one of log, uniform, int, choice"]),
        ([*SEARCH[:-1], "train.lr"], ["has no = between key and values"]),
        ([*SEARCH[:-1], "prompt_len={uniform: [2.5, 4]}"],
         ["prompt_len must be a whole number, not 2.5"]),
        ([*SEARCH[:-1], "train.learning_rate={log: [1e-3, 1e-1]}"],
         ["learning_rate is train.lr", "type --space 'train.lr={log: [1e-3, 1e-1]}'"]),
        ([*SEARCH[:-1], "train.bach_size={int: [2, 4]}"], ["did you mean train.batch_size"]),
        ([*SEARCH[:-1], "method.reparm={choice: [mlp]}"], ["reparm"]),
        ([*SEARCH[:-1], "train.seed={int: [1, 9]}"], ["a search averages over seeds"]),
        ([*SEARCH[:-1], "task={choice: [superglue/rte, superglue/cb]}"],
         ["compares the scores of one task"]),
        ([*SEARCH, "--lr", "1e-2,1e-3"], ["train.lr is swept twice"]),
        (["--search", "grid", "--space", RATES], ["search: grid tries every value"]),
        ([*SEARCH, "--prune", "median"], ["nothing to judge by"]),
        ([*SEARCH, "--join"], ["--join", "several machines search together with --storage URL"]),
        (["config.yaml", "config.yaml", *SEARCH], ["a search takes one config, not 2"]),
    ],
)  # fmt: skip
def test_refused_before_anything_starts(
    words: list[str], says: list[str], config: Path, refused: Refused
) -> None:
    refused("sweep", *words, says=says)


@pytest.mark.parametrize(
    ("sweep", "says"),
    [
        ({"serch": "tpe"}, "did you mean search? write sweep: {search: tpe}"),
        ({**SECTION, "space": {}}, "sweep.space must be a mapping of keys, not an empty one"),
        ({**SECTION, "space": {"train.lr": {"log": [1e-3]}}}, "must have two numbers"),
        ({**SECTION, "spaces": {}}, "did you mean space?"),
        ({**SECTION, "trials": 0}, "trials must be a whole number, 1 or more, not 0"),
        ({"space": SECTION["space"]}, "has a range, which only a search can try"),
    ],
)
def test_bad_sections_are_refused(
    sweep: dict[str, Any], says: str, material: Material, refused: Refused
) -> None:
    material.write(Path("config.yaml"), sweep=sweep)
    refused("sweep", says=[says, "error: config.yaml:"])


def test_without_optuna_the_command_that_brings_it_is_named(
    config: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = importlib.util.find_spec

    def absent(name: str, *rest: Any) -> Any:
        return None if name == "optuna" else really(name, *rest)

    monkeypatch.setattr("ptv2_cli.sweeps.search_options.find_spec", absent)
    refused("sweep", *SEARCH, says=["is not installed", "pip install 'ptv2[search]'"])


def test_a_database_that_cannot_be_used_is_refused_before_anything_is_loaded(
    config: Path, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[int] = []
    monkeypatch.setattr(LocalEngine, "forecast", lambda *words: timed.append(1) or Forecast())
    result = ptv2("sweep", *SEARCH, "--storage", "sqlite:////no/such/folder/x.db")
    assert result.code == 2
    assert "the database of the search cannot be used" in result.err
    assert not timed
    assert not Path("runs").exists()


def test_a_password_is_never_shown(config: Path, ptv2: Ptv2) -> None:
    url = "sqlite+nodriver://me:secret@host/db"
    result = ptv2("sweep", *SEARCH, "--storage", url)
    assert result.code == 2
    assert "sqlite+nodriver://me:***@host/db" in result.err
    assert "cannot be used" in result.err
    assert "secret" not in result.err + result.out
    for path in Path("runs").rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes()


def test_a_section_is_valid_yaml_of_its_docs(config: Path, ptv2: Ptv2) -> None:
    """The example in docs/sweep.md is a search."""
    text = (Path(__file__).parents[3] / "docs" / "sweep.md").read_text()
    (example,) = [part for part in text.split("```") if "search: tpe" in part and "yaml" in part]
    section = yaml.safe_load(example.removeprefix("yaml"))
    content = {**yaml.safe_load(config.read_text()), **section}
    config.write_text(yaml.safe_dump(content))
    assert ptv2("sweep", "--dry-run", *LONGER).code == 0
