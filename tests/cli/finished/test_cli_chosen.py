"""Which run predict, eval and compare take: the newest, the one named, a sweep's best trial."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from commandline import Material, Ptv2, Refused

from ptv2_cli import load
from ptv2_cli.cli.app import run as carry_out

SCORES = {(2, 11): 0.5, (2, 12): 0.7, (4, 11): 0.9, (4, 12): 0.1}
"""By prompt length and seed: length 2 has the better mean, length 4 the better trial."""
ROW = {"premise": "ann saw bob .", "hypothesis": "ann saw"}


@pytest.fixture(scope="session")
def _swept(tmp_path_factory: pytest.TempPathFactory, material: Material) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    config = material.write(folder / "config.yaml", name="small")
    words = ["--prompt-len", "2,4", "--seed", "11,12", "--output", str(folder / "runs")]
    assert carry_out(["sweep", str(config), *words]) == 0
    for at, ((length, seed), score) in enumerate(SCORES.items()):
        (path,) = folder.glob(f"runs/*-p{length}-s{seed}-*/metrics.json")
        metrics = json.loads(path.read_text())
        metrics["selection"]["value"] = score
        path.write_text(json.dumps(metrics))
        os.utime(path, (1e9 + at, 1e9 + at))
    return folder


@pytest.fixture
def swept(_swept: Path, tmp_path: Path) -> Path:
    """A sweep's folder under `runs/`; the last of its trials is the newest run."""
    shutil.copytree(_swept, tmp_path, dirs_exist_ok=True)
    Path("new.jsonl").write_text(json.dumps(ROW) + "\n")
    (found,) = Path("runs/sweeps").iterdir()
    return found


def trial(length: int, seed: int) -> Path:
    (found,) = Path("runs").glob(f"*-p{length}-s{seed}-*")
    return found


@pytest.mark.parametrize("command", ["predict", "eval"])
def test_the_newest_run_names_the_best_of_its_sweep(command: str, swept: Path, ptv2: Ptv2) -> None:
    result = ptv2(command, *(["new.jsonl"] if command == "predict" else []))
    assert result.code == 0, result.err
    lines = result.err.splitlines()
    assert lines[0] == f"newest finished run: {trial(4, 12)}"
    assert lines[1] == f"it is a trial of the sweep {swept}, whose best is {trial(2, 12)}"
    flag = "--run" if command == "predict" else "ptv2 eval"
    assert lines[2].startswith(f"  -> {flag} {swept} uses the best; best.yaml there")


def test_the_newest_run_may_be_the_best_or_of_no_sweep(swept: Path, ptv2: Ptv2) -> None:
    os.utime(trial(2, 12) / "metrics.json")
    result = ptv2("predict", "new.jsonl")
    assert f"it is the best trial of the sweep {swept}" in result.err
    assert "->" not in result.err
    shutil.rmtree("runs/sweeps")
    assert "sweep" not in ptv2("predict", "new.jsonl").err


def test_a_sweep_stands_for_its_best_trial(swept: Path, ptv2: Ptv2) -> None:
    """The best seed of the best setting, not the best single run, which may be luck."""
    best = trial(2, 12)
    wanted = ptv2("predict", "new.jsonl", "--run", best).out
    for name in (swept, swept.absolute()):
        result = ptv2("predict", "new.jsonl", "--run", name)
        assert f"best trial of {name}: {best if name == swept else best.absolute()}" in result.err
        assert result.out == wanted
    assert wanted != ptv2("predict", "new.jsonl", "--run", trial(4, 11)).out

    result = ptv2("eval", swept, "--json")
    assert json.loads(result.out)["run"] == str(best)

    result = ptv2("compare", swept, trial(4, 11))
    assert result.code == 0, result.err
    assert result.out.splitlines()[:2] == [f"A: {best}", f"B: {trial(4, 11)}"]

    assert load(swept).directory == best


def test_from_another_folder(swept: Path, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch) -> None:
    best = trial(2, 12).absolute()
    for folder, name in (("runs/sweeps", swept.name), ("configs", f"../{swept}")):
        Path(folder).mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        assert f"best trial of {name}: {best}" in ptv2("eval", name).err
        monkeypatch.chdir(best.parent.parent)


def test_a_sweep_without_one_best_trial(swept: Path, refused: Refused) -> None:
    plan = swept / "plan.json"
    text = plan.read_text()
    content = json.loads(text)
    for entry in content["trials"][:2]:
        entry["task"] = "superglue/boolq"
    plan.write_text(json.dumps(content))
    both = f"name one of them: {trial(2, 12)}, {trial(4, 11)}"
    refused("eval", swept, says=[f"{swept}: the sweep has several tasks", both])

    plan.write_text(text)
    for path in Path("runs").glob("small-*"):
        shutil.rmtree(path)
    refused("eval", swept, says=[f"{swept}: no trial of this sweep has a score"])
    plan.write_text("{")
    refused("eval", swept, says=[f"{plan}: is no file of a ptv2 sweep"])


def test_a_damaged_sweep_stops_no_other_run(swept: Path, ptv2: Ptv2) -> None:
    (swept / "plan.json").write_text("{")
    assert ptv2("predict", "new.jsonl").code == 0
