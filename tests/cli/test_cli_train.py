"""`ptv2 train` as a user meets it."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from commandline import Material, Ptv2, only_run, tree

ESCAPE = "\x1b"


def written(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return content


def metrics(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return content


def test_what_a_run_leaves(finished: Path) -> None:
    assert finished.name.startswith("config-ptuning_v2-p3-s11-")
    assert len(finished.name.rsplit("-", 1)[1]) == 8
    names = set(tree(finished))
    assert {
        "config.yaml",
        "metrics.json",
        "history.jsonl",
        "log.txt",
        "predictions/validation.jsonl",
        "predictions/test.jsonl",
        "checkpoints/last.json",
        "checkpoints/best.json",
    } <= names
    assert not [name for name in names if name.endswith(".tmp")]
    found = metrics(finished)
    assert found["status"] == "finished"
    assert set(found["metrics"]) == {"validation", "test"}
    assert found["evaluations"] == len((finished / "history.jsonl").read_text().splitlines()) == 1
    for split, rows in (("validation", 6), ("test", 4)):
        lines = (finished / "predictions" / f"{split}.jsonl").read_text().splitlines()
        assert len(lines) == found["data"][split]["rows"] == rows
        right = [line["prediction"]["label"] == line["gold"] for line in map(json.loads, lines)]
        assert sum(right) / rows == found["metrics"][split]["accuracy"]
    assert "training for 2 steps" in (finished / "log.txt").read_text()


def test_scores_on_stdout_and_progress_on_stderr(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"))
    result = ptv2("train")
    assert result.code == 0
    scores, parameters, run = result.out.splitlines()
    value = 100 * metrics(only_run())["metrics"]["validation"]["accuracy"]
    assert scores.startswith(f"superglue/rte validation: accuracy {value:.1f}; ")
    assert "majority baseline 50.0" in scores
    assert parameters.startswith("ptuning_v2: 642 trainable parameters (")
    assert run == f"run: {only_run()}"
    for text in ("training for 2 steps", "step 2: accuracy", "finished", "next:", "  ptv2 eval "):
        assert text in result.err
        assert text not in result.out
    assert ESCAPE not in result.out + result.err
    assert "\r" not in result.err


@pytest.mark.parametrize("data", ["ner", "squad"])
def test_tagging_and_questions(material: Material, ptv2: Ptv2, data: str) -> None:
    task = {"ner": "ner/conll2003", "squad": "qa/squad"}[data]
    folder = str(getattr(material, data))
    material.write(Path("config.yaml"), task={"name": task, "data": folder, "max_len": 24})
    result = ptv2("train")
    assert result.code == 0, result.err
    assert result.out.startswith(f"{task} validation: f1 ")
    again = ptv2("eval")
    assert again.code == 0
    assert "differs" not in again.out
    assert "validation f1 " in again.out


@pytest.mark.parametrize("method", ["prompt_tuning", "ptuning_v1", "finetune", "head_only"])
def test_other_methods(material: Material, ptv2: Ptv2, method: str) -> None:
    material.write(Path("config.yaml"), method=method)
    result = ptv2("train", "--set", "train.steps=1")
    assert result.code == 0, result.err
    assert f"{method}: " in result.out
    assert ptv2("eval").out.endswith(", equal\n")


def test_a_finished_run_is_not_trained_again(finished: Path, ptv2: Ptv2) -> None:
    before = tree(finished)
    result = ptv2("train")
    assert result.code == 0
    assert "this run is finished already (--resume never trains it again)" in result.err
    assert "training for" not in result.err
    assert result.out.startswith("superglue/rte validation: accuracy ")
    assert tree(finished) == before


def test_resume_never_trains_again(finished: Path, ptv2: Ptv2) -> None:
    before = metrics(finished)
    (finished / "metrics.json").write_text(json.dumps({**before, "status": "old"}))
    stale = finished / "eval" / "validation.json"
    stale.parent.mkdir()
    stale.write_text("{}")
    result = ptv2("train", "--resume", "never")
    assert result.code == 0
    assert "training for 2 steps" in result.err
    after = metrics(finished)
    assert after["status"] == "finished"
    assert after["metrics"] == before["metrics"]
    assert not stale.exists()
    assert len((finished / "history.jsonl").read_text().splitlines()) == 1
    assert only_run() == Path("runs", finished.name)


def test_an_interrupted_run_goes_on(finished: Path, ptv2: Ptv2) -> None:
    before = metrics(finished)
    (finished / "metrics.json").unlink()
    result = ptv2("train")
    assert result.code == 0
    assert "resumed at step 2 of 2 steps" in result.err
    assert metrics(finished)["metrics"] == before["metrics"]


@pytest.mark.parametrize("finished_already", [False, True])
def test_dry_run_writes_nothing(
    material: Material,
    ptv2: Ptv2,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    finished_already: bool,
) -> None:
    if finished_already:
        request.getfixturevalue("finished")
    else:
        material.write(Path("config.yaml"))
    before = tree(tmp_path)
    result = ptv2("train", "--dry-run")
    assert result.code == 0
    table = [line.split() for line in result.out.splitlines()]
    # 2 * L * H * P and C * H + C: two layers of values, and a linear head on 32 values.
    assert ["prompt", "576", "yes"] in table
    assert ["head", "66", "yes"] in table
    assert ["trainable", "642", "2.38", "%"] in table
    assert [row[0] for row in table if row[-1] == "no"] == ["backbone"]
    assert "dry run: nothing written; the run would be runs/config-ptuning_v2-p3-" in result.err
    assert tree(tmp_path) == before


def test_a_dry_run_loads_the_model_when_the_tokens_are_gone(
    material: Material, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.inputs.feature_table import FeatureTable
    from ptv2_cli.runs import session

    material.write(Path("config.yaml"))
    tables, held = [], []
    really_open, really_made = session.open_session, FeatureTable.__init__

    def made(self: FeatureTable, *args: Any, **options: Any) -> None:
        tables.append(weakref.ref(self))
        really_made(self, *args, **options)

    def opened(*args: Any) -> Any:
        gc.collect()
        held.extend(table() for table in tables if table() is not None)
        return really_open(*args)

    monkeypatch.setattr(FeatureTable, "__init__", made)
    monkeypatch.setattr(session, "open_session", opened)
    assert ptv2("train", "--dry-run").code == 0
    assert tables
    assert held == []


def test_options_reach_the_resolved_config(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"), head={"pooling": "mean"})
    options = "--prompt-len 5 --lr 1e-2 --seed 7 --set train.schedule=constant --set name=mine"
    assert ptv2("train", *options.split(), "--unset", "head.pooling", "--device", "cpu").code == 0
    run = only_run()
    assert run.name.startswith("mine-ptuning_v2-p5-s7-")
    config = written(run)
    assert config["prompt_len"] == 5
    assert config["train"]["lr"] == 0.01
    assert config["train"]["seed"] == metrics(run)["seed"] == 7
    assert config["train"]["schedule"] == "constant"
    assert config["head"]["pooling"] == "pooler"


def test_a_shortcut_wins_over_set(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"))
    result = ptv2("train", "--prompt-len", "2", "--set", "prompt_len=4", "--dry-run")
    assert "-p2-s11-" in result.err


def test_output_folder(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"))
    assert ptv2("train", "--output", "there/is/none").code == 0
    assert not Path("runs").exists()
    assert only_run(Path("there/is/none")).name.startswith("config-")
    assert ptv2("eval", "--output", "there/is/none").out.endswith("equal\n")


def test_prompt_len_means_nothing_to_finetune(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"), method="finetune", prompt_len=None)
    first = ptv2("train")
    assert first.code == 0
    assert "ignored" not in first.err
    assert only_run().name.startswith("config-finetune-p0-s11-")
    again = ptv2("train", "--prompt-len", "20")
    assert again.code == 0
    assert "this run is finished already" in again.err
    assert again.out == first.out
    fresh = ptv2("train", "--prompt-len", "20", "--resume", "never")
    assert "prompt_len 20 is ignored: finetune has no prompt" in fresh.err
    assert written(only_run())["prompt_len"] is None


def test_what_is_ignored_is_said_of_a_finished_run_too(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"), method="head_only", prompt_len=None)
    assert ptv2("train").code == 0
    again = ptv2("train", "--prompt-len", "20")
    assert "prompt_len 20 is ignored: head_only has no prompt" in again.err


def test_relative_paths_belong_to_the_file(
    material: Material, ptv2: Ptv2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(material.rte, "data/rte")
    shutil.copytree(material.bert, "models/bert")
    task = material.task(data="../data/rte")
    material.write(Path("configs/rte.yaml"), task=task, backbone="../models/bert")
    assert ptv2("train", "configs/rte.yaml").code == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    again = ptv2("train", "../configs/rte.yaml", "--output", "../runs")
    assert "this run is finished already" in again.err
    assert ptv2("eval", "--output", tmp_path / "runs").out.endswith("equal\n")
    # On the command line they belong to the current folder.
    here = ptv2("train", "../configs/rte.yaml", "--set", "task.data=../data/rte", "--dry-run")
    assert here.code == 0
    gone = ptv2("train", "../configs/rte.yaml", "--set", "task.data=data/rte", "--dry-run")
    assert gone.code == 2
    assert f"{tmp_path}/elsewhere/data/rte: the data folder does not exist" in gone.err


def test_the_same_data_elsewhere_is_the_same_run(
    finished: Path, material: Material, ptv2: Ptv2
) -> None:
    shutil.copytree(material.rte, "copy")
    shutil.copytree(material.bert, "model")
    result = ptv2("train", "--set", "task.data=copy", "--set", "backbone=model")
    assert "this run is finished already" in result.err
    with Path("copy/train.jsonl").open("a") as file:
        file.write(Path("copy/train.jsonl").read_text().splitlines()[0] + "\n")
    result = ptv2("train", "--set", "task.data=copy", "--dry-run")
    assert finished.name not in result.err


@pytest.mark.parametrize("named", ["config.yaml", "."])
def test_the_resolved_config_trains_the_same_run(finished: Path, ptv2: Ptv2, named: str) -> None:
    result = ptv2("train", finished / named)
    assert result.code == 0
    assert "this run is finished already" in result.err
    assert "error" not in result.err
    other = ptv2("train", finished / "config.yaml", "--output", "again")
    assert other.code == 0
    assert only_run(Path("again")).name == finished.name
    assert written(only_run(Path("again"))) == written(finished)


def test_a_run_is_found_by_any_name(finished: Path, ptv2: Ptv2) -> None:
    Path("config.yaml").rename("other.yaml")
    result = ptv2("train", "other.yaml")
    assert "this run is finished already" in result.err
    assert f"run: runs/{finished.name}" in result.out


def test_without_validation_a_tenth_is_held_out(material: Material, ptv2: Ptv2) -> None:
    tiny.write_rte(Path("data"), train=24, validation=0)
    material.write(Path("config.yaml"), task=material.task(data="data"))
    result = ptv2("train")
    assert result.code == 0, result.err
    assert "a tenth of train is held out to choose and report on" in result.err
    assert result.out.startswith("superglue/rte holdout: accuracy ")
    assert ptv2("eval").out.endswith("equal\n")


def test_cut_text_is_warned_about(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"), task=material.task(max_len=8))
    for command in (["train", "--dry-run"], ["train"]):
        result = ptv2(*command)
        assert result.code == 0
        assert "train rows (" in result.err
        assert "are cut at max_len 8; raise task.max_len" in result.err
    found = metrics(only_run())
    assert found["data"]["train"]["truncated_rows"] > 0
    assert [text for text in found["warnings"] if "max_len 8" in text]
    again = ptv2("train")
    assert "are cut at max_len 8" in again.err
