"""Write a foreign prompt as a run directory: check it, score it, save it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.errors import InputError, Problem, gather
from ptv2_cli.interop.fitting import fit_backbone, fit_head, fit_prompt
from ptv2_cli.interop.foreign import Foreign
from ptv2_cli.interop.opened import new_folder, require_new
from ptv2_cli.memory import peak_bytes
from ptv2_cli.methods.ptuning_v2 import PAPER
from ptv2_cli.registry import METHODS
from ptv2_cli.runs.directory import RunDirectory, directory_name, write_config
from ptv2_cli.runs.evaluation import Evaluation
from ptv2_cli.runs.resolved_run import ResolvedRun, prepare
from ptv2_cli.runs.results import build_metrics, write_history, write_json, write_predictions
from ptv2_cli.runs.session import Session, open_session
from ptv2_cli.runs.training_record import TrainingRecord
from ptv2_cli.training.checkpoint import save_checkpoint


@dataclass(frozen=True)
class Imported:
    """The written run directory, notes and warnings for the user, and its metrics.json."""

    directory: RunDirectory
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    metrics: dict[str, Any]


def settings_of(loaded: LoadedConfig, foreign: Foreign) -> list[str]:
    """The settings that the checkpoint determines, as texts for `--set`.

    Raises:
        InputError: the config contradicts the checkpoint.
    """
    gather(_conflicts(loaded, foreign), InputError)
    settings = [
        f"prompt_len={foreign.length}",
        "method.recipe=paper",
        "method.init=normal",
        "method.key_lr_factor=1",
        "method.freeze_first=false",
    ]
    if foreign.hidden is None:
        return [*settings, "method.reparam=none"]
    return [*settings, "method.reparam=mlp", f"method.reparam_hidden={foreign.hidden}"]


def import_checkpoint(
    foreign: Foreign, loaded: LoadedConfig, output: Path, *, device: torch.device, offline: bool
) -> Imported:
    """Write a finished run from a checkpoint and the config for its backbone, task and head.

    It scores the reported splits, so that `ptv2 eval`, `predict`, `report` and `compare` work with
    it as with a trained run; `origin` in metrics.json names the checkpoint.

    Raises:
        InputError: checkpoint and config do not fit together; nothing is written.
    """
    resolved_run = prepare(loaded, output, offline=offline)
    config = resolved_run.resolved.config
    fingerprint = _fingerprint(foreign, resolved_run)
    assert config.name is not None
    directory = RunDirectory(output / directory_name(config, config.name, fingerprint))
    require_new(directory.path)
    session = open_session(resolved_run, device)
    fit_prompt(session.learner, foreign)
    notes = [*foreign.notes, *fit_backbone(session.learner.backbone, foreign)]
    warnings = list(fit_head(session, foreign))
    session.learner.eval()
    scores, state = _score(session)
    record = _record(session, scores, state)
    metrics = build_metrics(
        session,
        record,
        status="finished",
        chosen=scores,
        final={name: evaluation.scores.metrics for name, evaluation in scores.items()},
        fingerprint=fingerprint,
        warnings=warnings,
        peak=peak_bytes(device),
    )
    metrics["origin"] = {
        "kind": f"imported from {foreign.program}",
        "file": str(foreign.file.resolve()),
        "sha256": foreign.sha256,
    }
    with new_folder(directory.path) as partial:
        _write(RunDirectory(partial), session, foreign, scores, state, metrics)
    return Imported(directory, tuple(notes), tuple(warnings), metrics)


def _conflicts(loaded: LoadedConfig, foreign: Foreign) -> Iterator[Problem]:
    config = loaded.config
    if METHODS.canonical(config.method.name, loaded.where("method")) != "ptuning_v2":
        what = f"the checkpoint is for ptuning_v2, the config's method is {config.method.name}"
        yield Problem(loaded.where("method"), what, "--set method=ptuning_v2")
        return
    if config.prompt_len not in {None, foreign.length}:
        what = (
            f"prompt_len is {config.prompt_len}, but the checkpoint has {foreign.length} positions"
        )
        yield Problem(loaded.where("prompt_len"), what, f"--set prompt_len={foreign.length}")
    options = config.method.options
    if options.get("position_offset") == "keep":
        what = "the checkpoint was trained with the text's positions after the prompt (shift)"
        yield Problem(
            loaded.where("method", "position_offset"), what, "--unset method.position_offset"
        )
    for key in ("softmax", "gates"):
        if options.get(key, PAPER[key]) != PAPER[key]:
            what = f"the checkpoint was trained with {key}: {PAPER[key]}"
            yield Problem(loaded.where("method", key), what, f"--unset method.{key}")
    if options.get("layers") is not None:
        what = "the checkpoint has a prompt for every layer"
        yield Problem(loaded.where("method", "layers"), what, "--unset method.layers")
    if config.backbone.quantize is not None and foreign.backbone:
        what = "the checkpoint's backbone is not quantized: the two cannot be compared"
        yield Problem(loaded.where("backbone", "quantize"), what, "--unset backbone.quantize")


def _fingerprint(foreign: Foreign, resolved_run: ResolvedRun) -> str:
    """Eight hex digits that no trained run has as its fingerprint."""
    content = ["import", foreign.program, foreign.sha256, resolved_run.fingerprint]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]


def _score(session: Session) -> tuple[dict[str, Evaluation], dict[str, float]]:
    """Scores of the selection split and all reported splits; the first one tunes the task."""
    config = session.resolved.config
    selection_split = config.selection.split
    scores: dict[str, Evaluation] = {selection_split: session.evaluate(selection_split)}
    state = scores[selection_split].state
    for split in config.report or ():
        if split != selection_split:
            scores[split] = session.evaluate(split, state)
    return scores, state


def _record(
    session: Session, scores: dict[str, Evaluation], state: dict[str, float]
) -> TrainingRecord:
    """A record for which the checkpoint is epoch 0."""
    selection = session.resolved.config.selection
    assert selection.metric is not None
    record = TrainingRecord(metric=selection.metric, mode=selection.mode, patience=None)
    value = scores[selection.split].scores.metrics.get(selection.metric)
    record.best = {"value": value, "epoch": 0, "step": 0, "state": state}
    return record


def _write(
    directory: RunDirectory,
    session: Session,
    foreign: Foreign,
    scores: dict[str, Evaluation],
    state: dict[str, float],
    metrics: dict[str, Any],
) -> None:
    config, data = session.resolved.config, session.resolved_run.data
    heading = (
        f"# Imported by ptv2 import from {foreign.program}: {foreign.file.name} of "
        f"{foreign.file.parent.name}.\n# Training this file would train another prompt.\n"
    )
    write_config(directory.config, config.model_dump(mode="json"), heading)
    tensors = {f"learner.{name}": value for name, value in session.learner.own_state().items()}
    best = {"value": metrics["selection"]["value"], "epoch": 0, "step": 0, "task_state": state}
    save_checkpoint(directory.checkpoints, "best", metrics["fingerprint"], tensors, best)
    write_history(directory.history, ())
    for split in config.report or ():
        predictions = scores[split].predictions
        write_predictions(
            directory.predictions(split), session.resolved.task, data.rows(split), predictions
        )
    write_json(directory.metrics, metrics)
