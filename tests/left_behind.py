"""What runs leave behind, read back and compared bit by bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.training.checkpoint import Checkpoint, Role, load_checkpoint

NOT_REPEATABLE = {"timing", "memory", "environment", "provenance"}


def read_checkpoint(folder: Path, role: Role) -> Checkpoint:
    """A checkpoint, whichever run it belongs to."""
    mark = json.loads((folder / f"{role}.json").read_text())["fingerprint"]
    return load_checkpoint(folder, role, mark)


def results(run: Path) -> dict[str, Any]:
    """All that a run leaves, without what clocks and machines say."""
    metrics = json.loads((run / "metrics.json").read_text())
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    for line in history:
        line.pop("train_seconds")
    tensors, states = {}, {}
    for role in ("best", "last"):
        if metrics["evaluations"] == 0 and role == "best":
            continue  # it diverged before its first evaluation
        checkpoint = read_checkpoint(run / "checkpoints", role)
        tensors |= {f"{role}.{key}": value for key, value in checkpoint.tensors.items()}
        states[role] = json.loads(json.dumps(checkpoint.state))
    tracker = states["last"]["tracker"]
    for key in ("train_seconds", "eval_seconds", "started"):
        tracker.pop(key)
    for line in tracker["history"]:
        line.pop("train_seconds")
    return {
        "metrics": {key: value for key, value in metrics.items() if key not in NOT_REPEATABLE},
        "history": history,
        "states": states,
        "predictions": [path.read_bytes() for path in sorted(run.glob("predictions/*"))],
        "config": (run / "config.yaml").read_text(),
        "tensors": tensors,
    }


def assert_bit_equal(one: Path, other: Path) -> None:
    """Two directories of one run hold the same result."""
    first, second = results(one), results(other)
    assert first["tensors"].keys() == second["tensors"].keys()
    differing = [
        name
        for name, tensor in first.pop("tensors").items()
        if not torch.equal(tensor.nan_to_num(), second["tensors"][name].nan_to_num())
    ]
    second.pop("tensors")
    assert differing == []
    for part in first:
        assert first[part] == second[part], part


def assert_tidy(run: Path) -> None:
    """Its checkpoints are one JSON and one tensor file each; nothing temporary lies anywhere."""
    files = sorted(path.name.split("-")[0] for path in (run / "checkpoints").iterdir())
    assert files in (["best", "best.json", "last", "last.json"], ["last", "last.json"])
    assert not list(run.rglob(".*"))
