"""Runs that several processes train together: the losses and predictions of one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kinds
import lm
import numpy as np
import pytest
import ranks
import tiny
import yaml

from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.distributed.shard import part_of
from ptv2_cli.training.events import EvalDone, StepDone

FolderOf = Callable[[str], Path]
TRAIN = {"lr": 0.02, "steps": 5, "eval_every": 3, "batch_size": 6, "eval_batch_size": 2, "seed": 11}
"""The last batch of an epoch has fewer rows, and an evaluation has several batches."""


def sequence(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    tiny.write_rte(folder, train=15)
    return {"task": {"name": "superglue/rte"}, "train": {**TRAIN, "clip": 0.5}}


def weighted(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    weights = {"entailment": 3.0, "not_entailment": 0.5}
    return {**sequence(folder, folder_of), "train": {**TRAIN, "class_weights": weights}}


def accumulated(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    """Batches of three rows: with four processes one has no row."""
    train = {**TRAIN, "batch_size": 3, "accumulate": 2, "average": 0.5}
    return {**sequence(folder, folder_of), "train": train}


def tokens(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    train = {**TRAIN, "batch_tokens": 100, "cache": "memory"}
    del train["batch_size"], train["eval_batch_size"]
    backbone = {"name": str(folder_of("bert")), "dropout": "off"}
    method = {"name": "ptuning_v2", "layers": "last:1"}
    sections = {"train": train, "backbone": backbone, "method": method}
    return {**sequence(folder, folder_of), **sections}


def finetune(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    train = {**TRAIN, "lr": 0.001, "gradient_checkpointing": True}
    changes = {"method": "finetune", "prompt_len": None, "train": train}
    return {**sequence(folder, folder_of), **changes}


def lora(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    method = {"name": "lora", "lora_dropout": 0.2}
    backbone = {"name": str(folder_of("deberta-v2")), "dropout": 0.2}
    train = {**TRAIN, "lr": 0.002}
    changes = {"method": method, "prompt_len": None, "train": train, "backbone": backbone}
    return {**sequence(folder, folder_of), **changes}


def rate(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    return {**sequence(folder, folder_of), "train": {**TRAIN, "lr": "auto"}}


def regression(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    return {"task": kinds.regression(folder)}


def choice(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    return {"task": kinds.choice(folder)}


def tagging(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    return {"task": kinds.tagging(folder)}


def spans(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    backbone = {"name": str(folder_of("bart")), "dropout": 0.2}
    return {"task": kinds.qa(folder), "backbone": backbone}


def multi(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    """Each batch is of one task, and leaves the head of the other without gradients."""
    names = [{"name": "ner/conll2003", "data": str(folder / name)} for name in ("one", "other")]
    for task, count in zip(names, (14, 9), strict=True):
        tiny.write_ner(Path(task["data"]), train=count)
    return {"tasks": names, "train": {**TRAIN, "steps": 3, "weight_decay": 0.5}}


def verbalizer(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    lm.write_rows(folder, train=15)
    head = {"name": "verbalizer", "template": lm.TEMPLATE, "words": lm.WORDS}
    backbone = str(lm.save_masked(folder / "model"))
    return {"task": {"name": "text/classification"}, "head": head, "backbone": backbone}


def generation(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    lm.write_texts(folder, train=15, validation=5)
    backbone = {"name": str(lm.save_writer(folder / "model", "gpt2")), "dropout": 0.2}
    generate = {"max_new_tokens": 4, "do_sample": True, "seed": 3}
    return {"task": {"name": "text/generation"}, "backbone": backbone, "generate": generate}


CASES = (
    *(sequence, weighted, accumulated, tokens, finetune, lora, rate, regression, choice, tagging),
    *(spans, multi, verbalizer, generation),
)
FOUR = {"accumulated", "choice"}
"""Also trained by four processes."""


def write(case: Callable[..., dict[str, Any]], tmp_path: Path, folder_of: FolderOf) -> Path:
    """The config of a case."""
    backbone = {"name": str(folder_of("bert")), "dropout": 0.2}
    content = {
        "method": "ptuning_v2",
        "prompt_len": 3,
        "backbone": backbone,
        "train": TRAIN,
        **case(tmp_path / "data", folder_of),
    }
    if "task" in content:
        content["task"] = {**content["task"], "data": str(tmp_path / "data"), "max_len": 30}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def trained(config: Path, output: Path, group: ProcessGroup) -> dict[str, Any]:
    """What a process has of the run at its end."""
    events: list[Any] = []
    session, metrics = tiny.trained(config, output, listen=events.append, group=group)
    steps = [event for event in events if isinstance(event, StepDone)]
    own = session.learner.own_state()
    return {
        "losses": [float(step.loss) for step in steps],
        "rows": [(step.rows, step.tokens) for step in steps],
        "validation": [event.loss for event in events if isinstance(event, EvalDone)],
        "metrics": metrics,
        "weights": {name: part_of(v).numpy() for name, v in own.items()},
    }


def predictions(output: Path) -> list[Any]:
    """The lines of the run's predictions."""
    (folder,) = output.iterdir()
    lines = (folder / "predictions" / "validation.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_close(found: Any, expected: Any) -> None:
    """Equal but for the last bits of numbers."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4)
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("case", "size"),
    [(case, size) for case in CASES for size in (2, 4) if size == 2 or case.__name__ in FOUR],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_several_processes_compute_what_one_computes(
    case: Callable[..., dict[str, Any]], size: int, tmp_path: Path, folder_of: FolderOf
) -> None:
    config = write(case, tmp_path, folder_of)
    alone = trained(config, tmp_path / "alone", ALONE)
    found = ranks.in_ranks(size, lambda group: trained(config, tmp_path / "several", group))
    first = found[0]
    assert first["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert first["validation"] == pytest.approx(alone["validation"], abs=1e-5)
    assert first["rows"] == alone["rows"]
    assert len(alone["losses"]) >= 3
    assert_close(predictions(tmp_path / "several"), predictions(tmp_path / "alone"))
    assert_close(first["metrics"]["metrics"], alone["metrics"]["metrics"])
    assert first["metrics"]["fingerprint"] == alone["metrics"]["fingerprint"]
    assert (alone["metrics"]["environment"]["devices"], size) == (
        1,
        first["metrics"]["environment"]["devices"],
    )
    for other in found[1:]:
        assert other["metrics"] == first["metrics"]
        assert other["losses"] == []  # it has no sinks
        for name, value in first["weights"].items():
            assert np.array_equal(other["weights"][name], value), name
