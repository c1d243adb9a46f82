"""A foreign prompt as a run directory of ours: checked, scored, written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.config.fingerprint import dump_yaml
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.errors import InputError, Problem, gather
from ptv2_cli.interop.fitting import fit_backbone, fit_head, fit_prompt
from ptv2_cli.interop.foreign import Foreign
from ptv2_cli.interop.opened import new_folder, require_new
from ptv2_cli.registry import METHODS
from ptv2_cli.runs.best_score import Tracker
from ptv2_cli.runs.directory import RunDirectory, directory_name
from ptv2_cli.runs.evaluation import Evaluation
from ptv2_cli.runs.resolved_run import ResolvedRun, prepare
from ptv2_cli.runs.results import build_metrics, write_history, write_json, write_predictions
from ptv2_cli.runs.session import Session, open_session
from ptv2_cli.training.checkpoint import save_checkpoint


@dataclass(frozen=True)
class Imported:
    """The run directory that was made, what is to know of it, and its scores."""

    directory: RunDirectory
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    metrics: dict[str, Any]


def facts(loaded: LoadedConfig, foreign: Foreign) -> list[str]:
    """What the checkpoint fixes in the config, as texts for `--set`.

    Raises:
        InputError: the config says something that the checkpoint cannot be.
    """
    gather(_conflicts(loaded, foreign), InputError)
    found = [f"prompt_len={foreign.length}", "method.init=normal"]
    if foreign.hidden is None:
        return [*found, "method.reparam=none"]
    return [*found, "method.reparam=mlp", f"method.reparam_hidden={foreign.hidden}"]


def adopt(
    foreign: Foreign, loaded: LoadedConfig, output: Path, *, device: torch.device, offline: bool
) -> Imported:
    """Make a finished run out of a checkpoint and the config that says what it is for.

    The reported splits are scored, so that `ptv2 eval`, `predict`, `report` and `compare` find
    what they find in a run that was trained here; `origin` in metrics.json says where it is from.

    Raises:
        InputError: checkpoint and config do not fit; nothing is written then.
    """
    resolved_run = prepare(loaded, output, offline=offline)
    config = resolved_run.resolved.config
    mark = _mark(foreign, resolved_run)
    assert config.name is not None
    directory = RunDirectory(output / directory_name(config, config.name, mark))
    require_new(directory.path)
    session = open_session(resolved_run, device)
    fit_prompt(session.learner, foreign)
    notes = [*foreign.notes, *fit_backbone(session.learner.backbone, foreign)]
    warnings = list(fit_head(session, foreign))
    session.learner.eval()
    scores, state = _score(session)
    tracker = _tracker(session, scores, state)
    metrics = build_metrics(
        session.resolved,
        resolved_run.data,
        tracker,
        status="finished",
        chosen=scores,
        final={name: found.scores.metrics for name, found in scores.items()},
        parameters=session.learner.counts(),
        device=device,
        fingerprint=mark,
        warnings=warnings,
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
        what = f"the checkpoint is of ptuning_v2, the config's method is {config.method.name}"
        yield Problem(loaded.where("method"), what, "--set method=ptuning_v2")
        return
    if config.prompt_len not in {None, foreign.length}:
        what = f"prompt_len is {config.prompt_len}, the checkpoint has {foreign.length} positions"
        yield Problem(loaded.where("prompt_len"), what, f"--set prompt_len={foreign.length}")
    options = config.method.options
    if options.get("position_offset") == "keep":
        what = "the checkpoint was trained with the text's positions behind the prompt (shift)"
        yield Problem(
            loaded.where("method", "position_offset"), what, "--unset method.position_offset"
        )
    if options.get("layers") is not None:
        what = "the checkpoint has a prompt for every layer"
        yield Problem(loaded.where("method", "layers"), what, "--unset method.layers")
    if config.backbone.quantize is not None and foreign.backbone:
        what = "the checkpoint's backbone is not quantized: the two cannot be compared"
        yield Problem(loaded.where("backbone", "quantize"), what, "--unset backbone.quantize")


def _mark(foreign: Foreign, resolved_run: ResolvedRun) -> str:
    """Eight hex digits like a fingerprint, but of no run that is trained."""
    content = ["import", foreign.program, foreign.sha256, resolved_run.fingerprint]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]


def _score(session: Session) -> tuple[dict[str, Evaluation], dict[str, float]]:
    """Every split that chooses or is reported; what the task tunes comes from the choosing one."""
    config = session.resolved.config
    chooses = config.selection.split
    scores: dict[str, Evaluation] = {chooses: session.evaluate(chooses)}
    state = scores[chooses].state
    for split in config.report or ():
        if split != chooses:
            scores[split] = session.evaluate(split, state)
    return scores, state


def _tracker(session: Session, scores: dict[str, Evaluation], state: dict[str, float]) -> Tracker:
    """A tracker of no training: the checkpoint is epoch 0."""
    selection = session.resolved.config.selection
    assert selection.metric is not None
    tracker = Tracker(metric=selection.metric, mode=selection.mode, patience=None)
    value = scores[selection.split].scores.metrics.get(selection.metric)
    tracker.best = {"value": value, "epoch": 0, "step": 0, "state": state}
    return tracker


def _write(
    made: RunDirectory,
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
    text = heading + dump_yaml(config.model_dump(mode="json"))
    made.config.write_text(text, encoding="utf-8")
    tensors = {f"learner.{name}": value for name, value in session.learner.own_state().items()}
    best = {"value": metrics["selection"]["value"], "epoch": 0, "step": 0, "task_state": state}
    save_checkpoint(made.checkpoints, "best", metrics["fingerprint"], tensors, best)
    write_history(made.history, ())
    for split in config.report or ():
        found = scores[split].predictions
        write_predictions(made.predictions(split), session.resolved.task, data.rows(split), found)
    write_json(made.metrics, metrics)
