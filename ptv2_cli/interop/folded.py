"""`--to folded`: a run that stores its prompt instead of the network that computes it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptv2_cli.config.load import load_config
from ptv2_cli.errors import InputError, RunError
from ptv2_cli.interop.opened import new_folder, require_new
from ptv2_cli.interop.to_peft import Written
from ptv2_cli.methods.prompt_values import Reparameterized, Residual
from ptv2_cli.rng import generator
from ptv2_cli.runs.directory import RunDirectory, write_config
from ptv2_cli.runs.results import write_json
from ptv2_cli.training.checkpoint import load_checkpoint, save_checkpoint

_SOURCE = "learner.method.source."
_LIKE_A_RUN = re.compile(r"-[0-9a-f]{8}$")


def export_folded(run: RunDirectory, folder: Path) -> Written:
    """Write a run with a `reparam` as one without: the network's output becomes the prompt.

    `ptv2 eval` and `ptv2 predict` work with the folder as with the run. Its metrics.json has the
    run's fingerprint, so a report with both counts one, and names the run under `origin`.

    Raises:
        RunError: the run has not finished, or has no network to fold.
        InputError: the folder is not empty or cannot be written.
    """
    require_new(folder)
    if _LIKE_A_RUN.search(folder.absolute().name):
        # `ptv2 train` finds runs by the end of their names and would take this for a trained run.
        raise InputError.at(
            str(folder), "ends like the name of a trained run", "give it a name without that end"
        )
    metrics = run.read_metrics()
    fingerprint = str(metrics["fingerprint"])
    checkpoint = load_checkpoint(run.checkpoints, "best", fingerprint)
    config = load_config(run.config).config.model_dump(mode="json")
    reparam = config["method"].get("reparam", "none")
    if reparam == "none":
        what = f"has no network to fold: its {config['method']['name']} has no reparam"
        raise RunError.at(str(run.path), what, "use the run as it is, or --to peft")
    source = checkpoint.part(_SOURCE.removesuffix("."))
    prompt = folded(source)
    others = {k: v for k, v in checkpoint.tensors.items() if not k.startswith(_SOURCE)}
    config["method"]["reparam"] = "none"
    with new_folder(folder) as partial:
        target = RunDirectory(partial)
        _copy_results(run, target)
        write_config(target.config, config, _heading(run, reparam))
        tensors = {**others, f"{_SOURCE}prompt": prompt}
        save_checkpoint(target.checkpoints, "best", fingerprint, tensors, checkpoint.state)
        write_json(target.metrics, _metrics(run, metrics, config, source, prompt.numel()))
        files = tuple(sorted(path.name for path in partial.iterdir()))
    return Written(folder, files, (f"its prompt is {prompt.numel():,} values, no network",))


def folded(source: Mapping[str, Tensor]) -> Tensor:
    """Prompt values [P, W] that a reparameterization computes."""
    length, size = source["prompt"].shape
    hidden, width = len(source["network.0.weight"]), len(source["network.2.weight"])
    unused = generator(0, "unused")
    network: Reparameterized | Residual
    if "network.3.weight" in source:  # the LayerNorm
        network = Residual(source["prompt"], hidden, unused)
    else:
        network = Reparameterized(length, size, hidden, width, 0.0, unused)
    network.load_state_dict(dict(source))
    with torch.no_grad():
        values: Tensor = network()
    return values


def _heading(run: RunDirectory, reparam: str) -> str:
    return (
        f"# Folded by ptv2 export from {run.path.name}, trained with reparam: {reparam}.\n"
        "# Training this file would train a prompt without that network: another run.\n"
    )


def _metrics(
    run: RunDirectory,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    source: Mapping[str, Tensor],
    values: int,
) -> dict[str, Any]:
    """Those of the run, with `values` in place of what `source` has; gates stay."""
    parameters = dict(metrics["parameters"])
    trained = sum(tensor.numel() for tensor in source.values())
    inputs = source["prompt"].numel()
    everything = 100 * parameters["trainable"] / parameters["trainable_percent"] - trained + values
    parameters["trainable"] += values - trained
    parameters["trainable_percent"] = 100 * parameters["trainable"] / everything
    parameters["prompt"] += values - inputs
    parameters["reparam"] -= trained - inputs
    parameters["prompt_percent"] = 100 * parameters["prompt"] / parameters["backbone"]
    origin = {
        "kind": "folded",
        "run": str(run.path.resolve()),
        "fingerprint": metrics["fingerprint"],
    }
    return {**metrics, "config": config, "parameters": parameters, "origin": origin}


def _copy_results(run: RunDirectory, target: RunDirectory) -> None:
    """Copy history and predictions, which are the same for the folded run."""
    if run.history.exists():
        shutil.copyfile(run.history, target.history)
    predictions = run.path / "predictions"
    if predictions.is_dir():
        shutil.copytree(predictions, target.path / "predictions")
