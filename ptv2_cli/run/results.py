"""metrics.json and predictions/*.jsonl: what a run leaves for people and programs."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.config.schema import RunConfig
from ptv2_cli.files import own_folder, write_atomic
from ptv2_cli.run.chunks import bad_line
from ptv2_cli.run.data import RunData
from ptv2_cli.run.provenance import provenance
from ptv2_cli.run.read_back import SCHEMA_VERSION
from ptv2_cli.run.recipe import Recipe
from ptv2_cli.run.scoring import Evaluation
from ptv2_cli.run.tracker import Tracker
from ptv2_cli.tasks.base import Prediction, Row, Task
from ptv2_cli.tasks.formats import Bad
from ptv2_cli.version import __version__

PACKAGES = (
    *("torch", "transformers", "datasets", "evaluate", "seqeval", "tokenizers", "numpy"),
    "torchao",
)


def build_metrics(
    recipe: Recipe,
    data: RunData,
    tracker: Tracker,
    *,
    status: str,
    chosen: Mapping[str, Evaluation],
    final: Mapping[str, Mapping[str, float]],
    parameters: Mapping[str, float],
    device: torch.device,
    fingerprint: str,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """All of metrics.json. `chosen`: evaluations at the chosen epoch; `final`: at the last one."""
    config, task = recipe.config, recipe.task
    selection = config.selection
    best = tracker.best or {}
    selected = chosen.get(selection.split)
    reported = config.report or ()
    return {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": fingerprint,
        "status": status,
        "task": task.identity,
        "method": config.method.name,
        "prompt_len": config.prompt_len,
        "backbone": {
            "name": config.backbone.name,
            "revision": recipe.located.commit,
            "identity": recipe.located.identity,
            "files": dict(recipe.located.files),
            "dtype": config.backbone.dtype,
            "quantize": config.backbone.quantize,
        },
        "selection": {
            "split": selection.split,
            "metric": selection.metric,
            "mode": selection.mode,
            "value": best.get("value"),
            "epoch": best.get("epoch"),
            "step": best.get("step"),
            "state": best.get("state", {}),
        },
        "metrics": {name: chosen[name].scores.metrics for name in reported if name in chosen},
        "final": {name: dict(final[name]) for name in reported if name in final},
        "evaluations": len(tracker.history),
        "majority_baseline": majority_baseline(task, data, selection.split),
        "standard_error": selected.scores.standard_errors.get(selection.metric or task.metric)
        if selected
        else None,
        "detail": {name: chosen[name].scores.detail for name in reported if name in chosen},
        "parameters": dict(parameters),
        "timing": _timing(tracker),
        "lanes": tracker.lanes,
        "memory": {"peak_bytes": peak_bytes(device)},
        "data": data.summary(),
        "data_note": data.note,
        "class_weights": _by_label(task, data.class_weights(config.train.class_weights)),
        "seed": config.train.seed,
        "config": config.model_dump(mode="json"),
        "environment": environment(device, computed_in(config)),
        "provenance": provenance(tracker.started),
        "warnings": list(warnings),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON in one rename; NaN, which is no JSON, becomes null."""
    own_folder(path.parent)
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())


def write_predictions(
    path: Path, task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]
) -> None:
    """A line per row: the row, its prediction, its gold answer."""
    own_folder(path.parent)
    lines = [
        as_line({**row, **line, "gold": task.gold(row)})
        for row, line in zip(rows, predictions, strict=True)
    ]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())


def write_bad_rows(path: Path, rows: Sequence[Bad]) -> None:
    """A line per row that was left out, see `bad_line`; without rows no file."""
    if rows:
        write_atomic(path, "".join(f"{as_line(bad_line(row))}\n" for row in rows).encode())
    else:
        path.unlink(missing_ok=True)


def as_line(content: Mapping[str, Any]) -> str:
    """JSON on one line, without its end; NaN becomes null."""
    return json.dumps(plain(content), ensure_ascii=False)


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """A line per evaluation so far."""
    write_atomic(path, "".join(f"{json.dumps(plain(line))}\n" for line in history).encode())


def majority_baseline(task: Task, data: RunData, split: str) -> dict[str, float] | None:
    """Scores on the selection split of a model that ignores its input."""
    rows = data.rows(split)
    guesses = task.majority(data.rows("train"), rows)
    return None if guesses is None else dict(task.score(rows, guesses).metrics)


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """Versions, device, precision and threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "ptv2": __version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "platform": sys.platform,
        "device": device.type,
        "device_name": name,
        "dtype": precision,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }


def computed_in(config: RunConfig) -> str:
    """The type of the backbone's activations: autocast's, else that of its weights."""
    precision = config.train.precision
    return config.backbone.dtype if precision == "fp32" else precision


def peak_bytes(device: torch.device) -> int:
    """Most memory so far: the allocator's on CUDA, the process's resident set elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _by_label(task: Task, weights: Sequence[float] | None) -> dict[str, float] | None:
    return None if weights is None else dict(zip(task.labels, weights, strict=True))


def _timing(tracker: Tracker) -> dict[str, float | None]:
    seconds = tracker.train_seconds
    return {
        "train_seconds": round(seconds, 3),
        "examples_per_second": round(tracker.rows / seconds, 3) if seconds else None,
        "tokens_per_second": round(tracker.tokens / seconds, 3) if seconds else None,
        "eval_seconds": round(tracker.eval_seconds, 3),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def plain(value: Any) -> Any:
    """Plain JSON data: numpy scalars become numbers, NaN and infinities null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
