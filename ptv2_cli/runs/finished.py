"""A finished run opened again: its config, its backbone and its best weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.files.locate import Located, locate
from ptv2_cli.backbones.gguf.header import is_gguf
from ptv2_cli.config.load import LoadedConfig, load_config
from ptv2_cli.config.overrides import Override
from ptv2_cli.data.rows import Split
from ptv2_cli.errors import RunError
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig, resolve_config
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.rows.data import RunData
from ptv2_cli.runs.session import Session, open_session
from ptv2_cli.training.checkpoint import load_state


def load_run_config(directory: RunDirectory, overrides: Sequence[Override] = ()) -> LoadedConfig:
    """The run's config, with keys of it replaced.

    Raises:
        RunError: it names a folder or a file as its backbone, and that is gone.
    """
    loaded = load_config(directory.config, overrides)
    name = loaded.config.backbone.name
    if Path(name).is_absolute() and not Path(name).exists():
        kind = "file" if is_gguf(name) else "folder"
        raise RunError.at(
            str(directory.path),
            f"its backbone is gone: there is no {kind} {name}",
            "bring it back to that place, or train the run again on another",
        )
    return loaded


def resolve_finished(
    directory: RunDirectory, metrics: Mapping[str, Any], loaded: LoadedConfig, *, offline: bool
) -> ResolvedConfig:
    """The resolved config of a finished run, with the backbone that it was trained on.

    `retention:` is left out: only what measures it needs its text. So is `track:`: the libraries
    that followed the training are not needed.

    Raises:
        BackboneError: the backbone cannot be found.
        RunError: it is another one now.
    """
    config = loaded.config.model_copy(update={"retention": None, "track": ()})
    resolved = resolve_config(replace(loaded, config=config), offline=offline)
    located = locate(resolved.config.backbone, offline=offline)
    _check_backbone(directory, metrics, located)
    return replace(resolved, located=located, method=resolved.method.without_init())


def open_best_session(
    directory: RunDirectory,
    metrics: Mapping[str, Any],
    resolved: ResolvedConfig,
    splits: dict[str, Split],
    device: torch.device,
    shared: Backbone | None = None,
) -> tuple[Session, dict[str, float]]:
    """The run's session with its best weights, and what its task tuned; see `open_session`.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    state = load_state(directory.checkpoints, "best", str(metrics["fingerprint"]))
    data = RunData(resolved.task, splits, demonstrations=state.get("demonstrations", []))
    resolved_run = ResolvedRun(resolved, data, str(metrics["fingerprint"]), directory)
    session = open_session(resolved_run, device, shared)
    return session, dict(session.load_best()["task_state"])


def _check_backbone(directory: RunDirectory, metrics: Mapping[str, Any], located: Located) -> None:
    changed = located.changes(metrics["backbone"])
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise RunError.at(
            str(directory.path),
            f"was trained on other files of {metrics['backbone']['name']} than are there now: "
            f"{', '.join(changed[:3])}{more}",
            "bring the backbone of that time back, or train the run again",
        )
