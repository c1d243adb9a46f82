"""Configs that cannot work: the message, exit code 2, nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2, Refused


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"promt_len": 3}, ["bad.yaml", "unknown key promt_len", "did you mean prompt_len?"]),
        (
            {"pre_seq_len": 3, "prompt_len": None},
            ["unknown key pre_seq_len", "pre_seq_len is prompt_len here: write prompt_len: 3"],
        ),
        ({"prompt_len": "three"}, ['must be a whole number, not the text "three"']),
        ({"prompt_len": 0}, ["prompt_len must be 1 or more, not 0", "write method: head_only"]),
        ({"prompt_len": None}, ["ptuning_v2 needs a prompt_len", "--prompt-len 20"]),
        ({"train": {"lr": "fast"}}, ["train.lr must be a number", "train: {lr: 5e-3}"]),
        ({"train": {"epoch": 3}}, ["unknown key train.epoch", "did you mean train.epochs?"]),
        (
            {"train": {"epochs": 3, "steps": 2}},
            ["train.steps: stands beside epochs; a run has one length"],
        ),
        ({"method": "ptuning_v3"}, ["unknown method 'ptuning_v3'", "did you mean 'ptuning_v2'?"]),
        (
            {"method": "prefix_tuning"},
            ["prefix tuning is ptuning_v2 with an MLP", "{name: ptuning_v2, reparam: mlp}"],
        ),
        (
            {"method": {"name": "ptuning_v2", "layers": "2-9"}},
            ["bad.yaml", "leave method.layers out for its default"],
        ),
        ({"head": "token"}, ["superglue/rte needs a sequence head, not 'token'"]),
        ({"head": {"pooling": "mask"}}, ["pooling: mask reads a template's {mask}"]),
        (
            {
                "method": {"name": "ptuning_v1", "template": "{p:3} {premise} {hypothesis}"},
                "head": {"pooling": "mask"},
            },
            ["pooling: mask reads a template's {mask}"],
        ),
        ({"selection": {"metric": "f1"}}, ["has no metric 'f1'", "its metrics are accuracy"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else str(value),
)
def test_keys_and_values(
    material: Material, refused: Refused, changes: dict[str, Any], says: list[str]
) -> None:
    material.write(Path("bad.yaml"), **changes)
    refused("train", "bad.yaml", says=says)


@pytest.mark.parametrize(
    ("max_len", "method", "says"),
    [
        (41, "ptuning_v2", ["max_len 41 is longer than the 40 positions", "at most 37"]),
        (41, "head_only", ["max_len 41 is longer than the 40 positions", "at most 40"]),
        (
            38,
            "ptuning_v2",
            ["prompt_len 3 plus 38 tokens of text are more than the 40 positions", "at most 37",
             "method.position_offset: keep needs none"],
        ),
        (38, "prompt_tuning", ["prompt_len 3 plus 38 tokens", "a shorter prompt\n"]),
    ],
)  # fmt: skip
def test_text_longer_than_the_positions(
    material: Material, refused: Refused, max_len: int, method: str, says: list[str]
) -> None:
    material.write(Path("bad.yaml"), method=method, task=material.task(max_len=max_len))
    refused("train", "bad.yaml", says=["bad.yaml:6: " if method != "head_only" else "", *says])


@pytest.mark.parametrize("command", ["train", "train --dry-run", "check"])
def test_no_room_for_text(material: Material, refused: Refused, command: str) -> None:
    material.write(Path("config.yaml"), task=material.task(max_len=3))
    refused(*command.split(), says=["3 tokens leave no room for text", "of at least 11"])


def test_positions_kept_leave_the_text_its_room(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("fine.yaml"), task=material.task(max_len=40))
    assert ptv2("check", "fine.yaml", "--set", "method.position_offset=keep").code == 0


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("superglue/rtee", ["unknown task 'superglue/rtee'", "did you mean 'superglue/rte'?"]),
        ("squad", ["unknown task 'squad'", "did you mean 'qa/squad'?", "ptv2 list tasks"]),
    ],
)
def test_unknown_task(material: Material, refused: Refused, task: str, says: list[str]) -> None:
    material.write(Path("bad.yaml"), task=material.task(name=task))
    refused("train", "bad.yaml", says=["bad.yaml:4: ", *says])


def test_unknown_option_of_a_task(material: Material, refused: Refused) -> None:
    material.write(Path("bad.yaml"), task=material.task(strude=3))
    refused("train", "bad.yaml", says=["unknown key task.strude"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", ["bad.yaml:1: must hold keys and values"]),
        ("just words\n", ["bad.yaml:1: must hold keys and values"]),
        ("", ["bad.yaml: is empty", "write at least: method, backbone, task, prompt_len"]),
        ("# nothing\n", ["bad.yaml: is empty"]),
        ("method: [a\nbackbone: x\n", ["bad.yaml:2: is not valid YAML", "this line and the one"]),
        ("method: a\n  backbone: x\n", ["bad.yaml:2: is not valid YAML"]),
        ("prompt_len: 20\n", ["method is missing", "backbone is missing", "task is missing"]),
    ],
)
def test_files_that_are_no_config(refused: Refused, text: str, says: list[str]) -> None:
    Path("bad.yaml").write_text(text)
    refused("train", "bad.yaml", says=says)


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        (2, "task.tasks must be a list, not 2"),
        ([{"data": "x"}], "task.tasks[0].name is missing"),
        ([{"name": ["x"]}], "task.tasks[0].name must be text, not a list"),
        ("superglue/rte", "task.tasks must be a list"),
    ],
)
@pytest.mark.parametrize("offline", [["--offline"], []])
def test_tasks_that_are_none(
    material: Material, refused: Refused, tasks: Any, says: str, offline: list[str]
) -> None:
    material.write(Path("bad.yaml"), task=None, tasks=tasks)
    refused("train", "bad.yaml", *offline, says=[says])


def test_names_that_no_folder_can_have(material: Material, refused: Refused) -> None:
    path = material.write(Path("bad.yaml"), name="x" * 5000)
    says = "name must be usable as part of a folder's name: at most 150 bytes"
    refused("train", path, says=[says])
    for name in ("é" * 76 + ".yaml", ".hidden.yaml", "a\\b.yaml"):
        path = material.write(Path(name))
        for command in ("check", "train"):
            says = "takes its name from this file, and a name must be usable"
            refused(command, path, says=[says, "--set name=NAME"])


def test_paths_that_no_file_can_have(material: Material, refused: Refused) -> None:
    Path("loop").symlink_to("loop")
    long = "x" * 5000
    refused("check", f"{long}.yaml", says=["xxx...: cannot be used: File name too long"])
    for task in ({"data": long}, {"train": long}, {"data": "loop"}, {"train": "loop/x"}):
        path = material.write(Path("bad.yaml"), task=material.task(**task))
        refused("check", path, says=["xxx" if long in task.values() else "loop", "->"])
    path = material.write(Path("bad.yaml"), backbone="./loop")
    refused("check", path, says=["loop: is neither a folder nor a hub id"])


@pytest.mark.parametrize("command", ["train", "check"])
def test_all_problems_at_once(material: Material, refused: Refused, command: str) -> None:
    train = {"lr": "fast", "epochs": 0}
    material.write(Path("bad.yaml"), train=train, pre_seq_len=3, task="superglu/rte")
    said = refused(
        command,
        "bad.yaml",
        "--prompt-len",
        "x",
        says=[
            "train.lr must be",
            "train.epochs must be",
            "pre_seq_len is prompt_len",
            "--prompt",
            "unknown task 'superglu/rte'",
        ],
    )
    assert said.err.count("error: ") == said.err.count("\n  -> ") == 5


def test_clashes_at_once(material: Material, refused: Refused) -> None:
    material.write(Path("bad.yaml"), head="token", selection={"metric": "f1", "fraction": 0.2})
    said = refused("train", "bad.yaml", says=["sequence head", "no metric 'f1'", "held out"])
    assert said.err.count("error: ") == 3


def test_no_config_here(refused: Refused) -> None:
    refused("train", says=["config.yaml: there is no such config file", "ptv2 list configs"])


def test_no_config_of_that_name(material: Material, refused: Refused) -> None:
    material.write(Path("rte.yaml"))
    refused("train", "rte.yml", says=["rte.yml: there is no such", "did you mean rte.yaml?"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--set", "train.lr=x"], ["--set train.lr: train.lr must be a number"]),
        (["--set", "train.lr"], ["--set: 'train.lr' has no ="]),
        (["--set", "train.lrr=1"], ["--set train.lrr: unknown key", "--set train.lr=1"]),
        (["--unset", "train.lrr"], ["--unset train.lrr: unknown key"]),
        (["--lr", "0"], ["--lr: train.lr must be", "not 0"]),
        (["--seed", "-1"], ["--seed: train.seed must be"]),
        (["--prompt-len", "0"], ["--prompt-len: prompt_len must be 1 or more"]),
    ],
)
def test_overrides_are_named_by_their_option(
    material: Material, refused: Refused, options: list[str], says: list[str]
) -> None:
    material.write(Path("config.yaml"))
    refused("train", "config.yaml", *options, says=says)


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(material: Material, ptv2: Ptv2, place: str) -> None:
    material.write(Path("bad.yaml"), prompt_len=0)
    words = ["train", "bad.yaml"]
    result = ptv2(*(["--debug", *words] if place == "before" else [*words, "--debug"]))
    assert result.code == 2
    assert "Traceback (most recent call last)" in result.err
    assert "error: bad.yaml:7: prompt_len must be 1 or more" in result.err
