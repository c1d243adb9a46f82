"""Runs, checkpoints, backbones, devices and words of the command line that cannot be used."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commandline import Material, Ptv2, Refused

Damage = Callable[[Path], None]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 4  # well inside the last tensor, or the JSON's state
    path.write_bytes(bytes(data))


DAMAGES = [
    pytest.param("*.safetensors", truncate, "truncated or altered: its checksum", id="truncated"),
    pytest.param("*.safetensors", flip, "truncated or altered: its checksum", id="bit flipped"),
    pytest.param("*.safetensors", Path.unlink, "is missing", id="tensors gone"),
    pytest.param(".json", truncate, "truncated or altered: it is no JSON", id="state truncated"),
    pytest.param(".json", flip, "truncated or altered", id="state flipped"),
]


def damage(run: Path, name: str, pattern: str, how: Damage) -> None:
    (path,) = (run / "checkpoints").glob(f"{name}{pattern}")
    how(path)


@pytest.mark.parametrize(("pattern", "how", "says"), DAMAGES)
def test_eval_of_a_damaged_checkpoint(
    finished: Path, refused: Refused, pattern: str, how: Damage, says: str
) -> None:
    damage(finished, "best", pattern, how)
    refused("eval", finished, says=["checkpoints/best", says, "--resume never trains the run"])


@pytest.mark.parametrize(("pattern", "how", "says"), DAMAGES)
def test_resuming_from_a_damaged_checkpoint(
    finished: Path, refused: Refused, ptv2: Ptv2, pattern: str, how: Damage, says: str
) -> None:
    (finished / "metrics.json").unlink()
    damage(finished, "last", pattern, how)
    refused("train", says=["checkpoints/last", says, "--resume never trains the run again"])
    assert ptv2("train", "--resume", "never").code == 0
    assert ptv2("eval").out.count(", equal") == 2


def test_a_checkpoint_of_another_run(
    finished: Path, ptv2: Ptv2, refused: Refused, tmp_path: Path
) -> None:
    """Another seed's, laid into this run's folder."""
    assert ptv2("train", "--seed", "12").code == 0
    other = next(run for run in Path("runs").iterdir() if run.name != finished.name)
    shutil.rmtree(finished / "checkpoints")
    shutil.copytree(other / "checkpoints", finished / "checkpoints")
    whose = f"is a checkpoint of the run {other.name[-8:]}, not of this run, {finished.name[-8:]}"
    for words in (
        ("eval", finished),
        ("predict", material_rows(tmp_path), "--run", finished),
        ("export", finished, "--to", "peft", tmp_path / "adapter"),
        ("train", "--set", f"method={{name: ptuning_v2, init: {{run: {finished}}}}}"),
    ):
        says = ["checkpoints/best.json", whose, "--resume never trains the run again"]
        refused_oneline(refused, *words, says=says)
    (finished / "metrics.json").unlink()
    refused_oneline(refused, "train", says=["checkpoints/last.json", whose])


def test_a_prompt_of_a_run_that_has_none(finished: Path, ptv2: Ptv2, refused: Refused) -> None:
    assert ptv2("train", "--set", "method=finetune", "--unset", "prompt_len").code == 0
    tuned = next(run for run in Path("runs").iterdir() if "-finetune-" in run.name)
    says = ["is a run of finetune: what it has learnt belongs to the backbone"]
    begin = ("--set", f"method={{name: ptuning_v2, init: {{run: {tuned}}}}}")
    for command in ("check", "train"):
        refused_oneline(refused, command, *begin, says=says)


def test_checkpoints_that_changed_places(finished: Path, refused: Refused) -> None:
    folder = finished / "checkpoints"
    (folder / "best.json").rename(folder / "aside")
    (folder / "last.json").rename(folder / "best.json")
    (folder / "aside").rename(folder / "last.json")
    refused_oneline(
        refused, "eval", finished, says=["best.json: holds the checkpoint 'last', not 'best'"]
    )
    (finished / "metrics.json").unlink()
    refused_oneline(refused, "train", says=["last.json: holds the checkpoint 'best', not 'last'"])


def material_rows(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text('{"premise": "ann sat", "hypothesis": "ann sat"}\n')
    return path


def refused_oneline(refused: Refused, *words: object, says: list[str]) -> None:
    """Refused with these texts, wherever the lines of the message break."""
    told = " ".join(refused(*words, says=[]).err.split())
    for text in says:
        assert text in told


def test_what_a_kill_left_is_removed_by_the_next_start(finished: Path, ptv2: Ptv2) -> None:
    (finished / "metrics.json").unlink()
    left = [
        finished / "checkpoints" / "last-0123456789abcdef.safetensors",
        finished / "checkpoints" / ".last-0123456789abcdef.safetensors.0123abcd.tmp",
        finished / ".metrics.json.0123abcd.tmp",
        finished / ".config.yaml.tmp",
        finished / "predictions" / ".validation.jsonl.0123abcd.tmp",
    ]
    for path in left:
        path.write_bytes(b"half")
    assert ptv2("train").code == 0
    assert not [path for path in left if path.exists()]


def test_no_such_run(refused: Refused) -> None:
    refused("eval", "absent", says=["absent: there is no such run directory", "  -> "])


def test_folder_that_is_no_run(finished: Path, refused: Refused) -> None:
    refused(
        "eval", "runs", says=["runs: is no run directory: it has no config.yaml", finished.name]
    )


def test_no_finished_run_here(refused: Refused) -> None:
    refused("eval", says=["runs: holds no finished run", "ptv2 init writes a config.yaml"])


def test_unfinished_run(finished: Path, refused: Refused) -> None:
    (finished / "metrics.json").unlink()
    here = Path("runs", finished.name)
    says = ["the run has not finished", f"ptv2 train {here}/config.yaml continues it"]
    refused("eval", here, says=says)


def test_what_continues_a_run_elsewhere(finished: Path, refused: Refused, ptv2: Ptv2) -> None:
    (finished / "metrics.json").unlink()
    Path("runs").rename("kept here")
    kept = Path("kept here", finished.name)
    said = refused("eval", kept, says=[f"ptv2 train '{kept}/config.yaml' --output 'kept here'"])
    command = said.err.split("-> ptv2 ")[1].removesuffix(" continues it\n")
    assert "resumed at step 2" in ptv2(*shlex.split(command)).err


@pytest.mark.parametrize("command", ["train", "eval"])
def test_broken_metrics(finished: Path, refused: Refused, ptv2: Ptv2, command: str) -> None:
    truncate(finished / "metrics.json")
    says = ["is no metrics.json of a ptv2 run", "--resume never trains it again"]
    refused(command, *([finished] if command == "eval" else []), says=says)
    assert ptv2("train", "--resume", "never").code == 0


WRONG = [
    ("task", 5, "task is 5"),
    ("task", {}, "it has no task.name"),
    ("prompt_len", "3", 'prompt_len is "3"'),
    ("selection.value", "high", 'selection.value is "high"'),
    ("selection.epoch", None, "selection.epoch is null"),
    ("metrics", {"validation": {"f1": 0.5}}, None),
    ("metrics", {"validation": {"accuracy": [1]}}, "metrics.validation.accuracy is [1]"),
    ("majority_baseline", {}, None),
    ("majority_baseline", {"f1": 0.5}, None),
    ("detail", {"validation": {"confusion": 5}}, "detail.validation.confusion is 5"),
    ("detail", {"validation": {"classes": {"a": 5}}}, "detail.validation.classes.a is 5"),
    ("parameters.trainable_percent", None, "parameters.trainable_percent is null"),
    ("timing", [], "timing is []"),
    ("data", {}, "data has no train"),
    ("data.train.rows", "many", 'data.train.rows is "many"'),
    ("config", {}, "it has no config.method"),
    ("config.train.lr", {}, "config.train.lr is {}"),
    ("environment", None, "environment is null"),
    ("status", "odd", 'status is "odd"'),
    ("warnings", "none", 'warnings is "none"'),
    ("seed", "x" * 5000, 'seed is "xxxxx'),
]


@pytest.mark.parametrize(("key", "value", "says"), WRONG)
def test_metrics_with_values_of_other_types(
    key: str, value: object, says: str | None, finished: Path, ptv2: Ptv2
) -> None:
    path = finished / "metrics.json"
    content = json.loads(path.read_text())
    *sections, last = key.split(".")
    place = content
    for section in sections:
        place = place[section]
    place[last] = value
    path.write_text(json.dumps(content))
    commands = (
        ("report",), ("eval", finished), ("compare", finished, finished), ("train",),
        ("predict", material_rows(Path.cwd()), "--run", finished),
        ("export", finished, "--to", "peft", "adapter"),
    )  # fmt: skip
    for words in commands if says is not None else (("train",), ("report",)):
        result = ptv2(*words)
        assert "Traceback" not in result.err
        told = " ".join(result.err.split())
        if says is None:
            assert result.code == 0 or "no run has such a score" in told
        else:
            assert result.code == 2, words
            assert f"metrics.json: is no metrics.json of a ptv2 run: {says}" in told, words
            assert len(told) < 1000


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"[1]", b"5", b"{}"])
def test_metrics_that_are_something_else(content: bytes, finished: Path, refused: Refused) -> None:
    (finished / "metrics.json").write_bytes(content)
    refused("eval", finished, says=["is no metrics.json of a ptv2 run"])


def test_metrics_that_are_a_folder(finished: Path, refused: Refused) -> None:
    (finished / "metrics.json").unlink()
    (finished / "metrics.json").mkdir()
    refused("eval", finished, says=["cannot be read: Is a directory"])


@pytest.mark.parametrize(
    "line",
    [
        '{"gold": "entailment"}',
        '{"row": {}, "gold": 1, "prediction": {"label": [], "probabilities": {}}}',
        '{"row": [], "gold": "entailment", "prediction": {"label": "entailment"}}',
        '{"row": {}, "gold": "entailment", "prediction": 5}',
        "5",
        "{",
    ],
)
def test_predictions_with_values_of_other_types(
    line: str, finished: Path, refused: Refused
) -> None:
    path = finished / "predictions" / "validation.jsonl"
    path.write_text(f"{path.read_text()}{line}\n")
    refused("compare", finished, finished, says=["validation.jsonl"])


@pytest.mark.parametrize("line", ['{"epoch": [1], "step": 1, "metrics": {}}', "5", "{}", "{"])
def test_history_with_values_of_other_types(line: str, finished: Path, ptv2: Ptv2) -> None:
    (finished / "history.jsonl").write_text(f"{line}\n")
    result = ptv2("report", "--plots", "plots")
    assert result.code == 2
    assert "is no history of a ptv2 run" in " ".join(result.err.split())


@pytest.mark.parametrize("note", [b"", b"\n\n", b"\xff\xfe caveat"])
def test_a_note_beside_the_data_that_is_empty_or_not_utf8(
    note: bytes, material: Material, ptv2: Ptv2
) -> None:
    shutil.copytree(material.rte, "rte")
    Path("rte/NOTE.txt").write_bytes(note)
    material.write(Path("config.yaml"), task=material.task(data="rte"))
    result = ptv2("train")
    assert result.code == 0, result.err
    assert ("caveat" in result.out) is (b"caveat" in note)


def test_metrics_of_another_version(finished: Path, refused: Refused) -> None:
    content = json.loads((finished / "metrics.json").read_text())
    (finished / "metrics.json").write_text(json.dumps({**content, "schema_version": 99}))
    refused("eval", finished, says=["has schema version 99, this ptv2 reads 1"])


def test_run_on_another_backbone(finished: Path, material: Material, refused: Refused) -> None:
    shutil.copytree(material.bert, "bert")
    flip(Path("bert/model.safetensors"))
    config = finished / "config.yaml"
    config.write_text(config.read_text().replace(str(material.bert), str(Path("bert").absolute())))
    refused("eval", finished, says=["was trained on other files of", "train the run again"])


def test_unknown_split(finished: Path, refused: Refused) -> None:
    refused("eval", "--split", "foo", says=["--split: unknown split 'foo'", "validation"])


def test_eval_on_data_that_is_not_there(finished: Path, refused: Refused) -> None:
    refused("eval", "--data", "gone.jsonl", says=["gone.jsonl", "no validation data"])


# Backbones


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (["model.safetensors"], ["has no weights (model.safetensors or pytorch_model.bin)"]),
        (["config.json"], ["has no config.json", "the folder that save_pretrained wrote"]),
    ],
)
def test_incomplete_backbone(
    material: Material, refused: Refused, spoil: list[str], says: list[str]
) -> None:
    shutil.copytree(material.bert, "bert")
    for name in spoil:
        Path("bert", name).unlink()
    material.write(Path("config.yaml"), backbone="bert")
    refused("train", says=["backbone ", *says])


def test_damaged_weights(material: Material, refused: Refused) -> None:
    shutil.copytree(material.bert, "bert")
    truncate(Path("bert/model.safetensors"))
    material.write(Path("config.yaml"), backbone="bert")
    refused("train", says=["model.safetensors"])


def test_sha256_that_differs(material: Material, refused: Refused) -> None:
    material.write(Path("config.yaml"), backbone={"name": str(material.bert), "sha256": "0" * 64})
    refused("train", says=["backbone.sha256", "the config says 0000", "correct backbone.sha256"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./nowhere", ["is neither a folder nor a hub id", "ptv2 list backbones"]),
        ("package:no_such_package/model", ["no installed package", "pip install no-such-package"]),
        ("package:ptv2_cli/model", ["has no folder 'model'"]),
    ],
)
def test_backbone_that_is_not_there(
    material: Material, refused: Refused, name: str, says: list[str]
) -> None:
    material.write(Path("config.yaml"), backbone=name)
    refused("train", says=says)


# Devices and usage


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("command", ["train", "eval"])
def test_no_cuda_here(finished: Path, refused: Refused, command: str) -> None:
    says = ["--device: cuda is not on this machine", "sees 0 CUDA devices", "--device cpu"]
    refused(command, "--device", "cuda", says=says)


@pytest.mark.parametrize("name", ["tpu", "meta", "cpu:x", ""])
def test_unknown_device(material: Material, refused: Refused, name: str) -> None:
    material.write(Path("config.yaml"))
    refused("train", "--device", name, says=["is no device", "auto, cpu, cuda or cuda:N"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], ["No such command 'trian'", "Did you mean 'train'?"]),
        (["train", "--promt-len", "3"], ["No such option: --promt-len", "--prompt-len"]),
        (["train", "a.yaml", "b.yaml"], ["unexpected extra argument", "b.yaml"]),
        (["train", "--resume", "maybe"], ["--resume", "'auto', 'never'"]),
        (["train", "--set"], ["--set"]),
        (["check", "--show", "-1"], ["--show"]),
        (["list"], ["methods", "tasks", "backbones", "configs"]),
        (["list", "foo"], ["'foo'", "methods"]),
        ([], ["Usage: ptv2", "Commands:", "train"]),
    ],
)
def test_usage(refused: Refused, words: list[str], says: list[str]) -> None:
    assert "defect" not in refused(*words, says=says).err
