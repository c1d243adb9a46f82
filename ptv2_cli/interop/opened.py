"""A finished run in fp32, for export to another library, and the folder to write it to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.errors import InputError, RunError
from ptv2_cli.learner import Learner
from ptv2_cli.runs.directory import RunDirectory, writing_at
from ptv2_cli.runs.finished import load_run_config, open_best_session, resolve_finished
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.session import Session


@dataclass(frozen=True)
class FinishedRun:
    """The metrics and config of a run; no weights are loaded yet."""

    directory: RunDirectory
    metrics: Mapping[str, Any]
    resolved: ResolvedConfig

    def session(self) -> Session:
        """The run's model on the CPU in fp32 with its best weights, in eval mode.

        Raises:
            CheckpointError: the checkpoint is missing or damaged.
        """
        device = torch.device("cpu")
        config = self.resolved.config
        plain = {
            "backbone": config.backbone.model_copy(update={"dtype": "fp32", "quantize": None}),
            "train": config.train.model_copy(update={"precision": "fp32"}),
        }
        resolved = replace(self.resolved, config=config.model_copy(update=plain))
        session, _ = open_best_session(self.directory, self.metrics, resolved, {}, device)
        session.learner.eval()
        return session


def open_finished(directory: RunDirectory, *, offline: bool) -> FinishedRun:
    """Read a run's metrics and config, and find its backbone.

    Raises:
        RunError: it has not finished, it diverged, or its backbone is missing or has changed.
    """
    metrics = directory.read_metrics()
    if metrics["status"] == "diverged":
        raise RunError.at(
            str(directory.path), "the run diverged: its weights are useless", "name another run"
        )
    resolved = resolve_finished(directory, metrics, load_run_config(directory), offline=offline)
    return FinishedRun(directory, metrics, resolved)


def pooler_weights(backbone: Backbone) -> dict[str, Tensor] | None:
    """Weight and bias of a pooler that is tanh(linear(vector)); None for any other."""
    pooler = backbone.pooler
    layers = (
        [part for part in pooler.modules() if isinstance(part, torch.nn.Linear)] if pooler else []
    )
    if len(layers) != 1:
        return None
    (layer,) = layers
    vectors = torch.linspace(-1, 1, 2 * layer.in_features).view(2, -1)
    with torch.no_grad():
        if not torch.allclose(backbone.pool(vectors), torch.tanh(layer(vectors)), atol=1e-6):
            return None
    return {"weight": layer.weight, "bias": layer.bias}


def head_weights(learner: Learner) -> dict[str, Tensor] | None:
    """Weight [C, H] and bias [C] of a head that is one linear layer; None for any other."""
    state = learner.head.state_dict()
    if set(state) != {"linear.weight", "linear.bias"}:
        return None
    return {"weight": state["linear.weight"], "bias": state["linear.bias"]}


_ELSEWHERE = "name another folder"


def require_new(path: Path) -> None:
    """Check that `path` does not exist or is an empty folder.

    Raises:
        InputError: it is a file or a folder that is not empty, or cannot be read.
    """
    with writing_at(path, _ELSEWHERE, "free some space", InputError):
        if path.exists() and not path.is_dir():
            raise InputError.at(str(path), "is a file, not a folder", _ELSEWHERE)
        if path.is_dir() and any(path.iterdir()):
            raise InputError.at(str(path), "is not empty", f"{_ELSEWHERE}, or empty this one")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder that is renamed to `path` at the end, and deleted after an error.

    Raises:
        InputError: `path` is not empty or cannot be written.
        MachineError: the disk is full.
    """
    require_new(path)
    partial = path.absolute().with_name(f".{path.absolute().name}.{os.getpid()}.part")
    with writing_at(path, _ELSEWHERE, "free some space and run it again", InputError):
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        try:
            yield partial
            partial.rename(path)  # over an empty folder too
        finally:
            shutil.rmtree(partial, ignore_errors=True)
