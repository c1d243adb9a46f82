"""The prompt of a finished run, for another run to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ptv2_cli.backbones.sites import KeysValues
from ptv2_cli.config.load import load_config
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import RunError
from ptv2_cli.methods.base import Context
from ptv2_cli.methods.spec import MethodSpec
from ptv2_cli.registry import METHODS
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.hub import fetched, is_on_hub
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.training.checkpoint import Checkpoint, load_checkpoint, load_tensors


def inherited_identity(method: MethodSpec) -> dict[str, str]:
    """What the fingerprint says of the prompt of another run that the method begins with.

    Raises:
        RunError: it is no finished run.
        CheckpointError: its checkpoint is missing or damaged.
    """
    folder = method.inherited_run
    if folder is None:
        return {}
    directory = _finished(folder)
    _best(directory)
    return {"method.init.run": next(directory.checkpoints.glob("best-*.safetensors")).stem}


def require_inherited(resolved: ResolvedConfig) -> None:
    """Refuse a method that begins with the prompt of a run that has none for this backbone.

    Raises:
        RunError: it is no finished run, is of another backbone, or changed its backbone.
        CheckpointError: its checkpoint is missing or damaged.
    """
    if (folder := resolved.method.inherited_run) is not None:
        directory, _, _ = _source(folder, resolved)
        _best(directory)


def trained_prompt(
    folder: str, resolved: ResolvedConfig, context: Context
) -> Mapping[int, KeysValues]:
    """Keys and values [1, K, P, D] by site that a finished run has trained on this backbone.

    Raises:
        RunError: it is no finished run, is of another backbone, changed its backbone, or its
            method has none.
        CheckpointError: its checkpoint is missing or damaged.
    """
    directory, config, spec = _source(folder, resolved)
    method = spec.without_init().build(replace(context, prompt_len=config.prompt_len or 0))
    tensors = _best(directory).part("learner")
    own = {
        name.removeprefix("method."): tensor
        for name, tensor in tensors.items()
        if name.startswith("method.")
    }
    load_tensors(method, own, directory.checkpoints / "best.json")
    found = method.eval()().keys_values
    if found is None:
        raise RunError.at(
            folder,
            f"is a run of {config.method.name}: it has no keys and values",
            "name a run of ptuning_v2",
        )
    return {at: (key.detach(), value.detach()) for at, (key, value) in found.items()}


def _source(folder: str, resolved: ResolvedConfig) -> tuple[RunDirectory, RunConfig, MethodSpec]:
    """The run that the prompt comes from, its config and its method."""
    directory = _finished(folder)
    trained_on = directory.read_metrics()["backbone"]
    if resolved.located.changes(trained_on):
        raise RunError.at(
            folder,
            f"was trained on {trained_on['name']}, whose files are not this backbone's",
            "prompts mean something to their own backbone alone: name a run of the same one",
        )
    config = load_config(directory.config).config
    spec: MethodSpec = METHODS.load(config.method.name).model_validate(config.method.options)
    if spec.changes_backbone:
        raise RunError.at(
            folder,
            f"is a run of {config.method.name}: what it has learnt belongs to the backbone that it "
            "changed",
            "name a run of ptuning_v2",
        )
    return directory, config, spec


def _best(directory: RunDirectory) -> Checkpoint:
    mark = str(directory.read_metrics()["fingerprint"])
    return load_checkpoint(directory.checkpoints, "best", mark)


def _finished(folder: str) -> RunDirectory:
    if is_on_hub(folder):
        return RunDirectory(fetched(folder))
    directory = RunDirectory(Path(folder))
    if not directory.metrics.is_file():
        raise RunError.at(
            f"method.init.run: {folder}",
            "is no finished run" if directory.path.is_dir() else "no such folder",
            "name a folder under runs/ that has a metrics.json",
        )
    return directory
