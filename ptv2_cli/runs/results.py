"""metrics.json and predictions/*.jsonl: what a run leaves for people and programs."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from ptv2_cli.config.schema import RunConfig
from ptv2_cli.data.formats import BadRow
from ptv2_cli.data.rows import Row, source_of
from ptv2_cli.files import make_folder, write_atomic
from ptv2_cli.registry import Source
from ptv2_cli.runs.best_score import Tracker
from ptv2_cli.runs.data import RunData
from ptv2_cli.runs.evaluation import Evaluation
from ptv2_cli.runs.prediction_stream import bad_line
from ptv2_cli.runs.read_back import PREDICTIONS_SCHEMA, SCHEMA_VERSION
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.scoring.scores import Prediction
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.multi import TASK, task_of_row
from ptv2_cli.version import __version__

PACKAGES = (
    *("torch", "transformers", "datasets", "evaluate", "seqeval", "tokenizers", "numpy"),
    "torchao",
)


def build_metrics(
    resolved: ResolvedConfig,
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
    config, task = resolved.config, resolved.task
    selection = config.selection
    best = tracker.best or {}
    selected = chosen.get(selection.split)
    reported = config.report or ()
    return {
        "schema_version": SCHEMA_VERSION,
        "predictions_schema": PREDICTIONS_SCHEMA,
        "fingerprint": fingerprint,
        "status": status,
        "task": task.identity,
        "method": config.method.name,
        "prompt_len": config.prompt_len,
        "backbone": {
            "name": config.backbone.name,
            "revision": resolved.located.commit,
            "identity": resolved.located.identity,
            "files": dict(resolved.located.files),
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
        "plugins": [_described(source) for source in resolved.plugins],
        "environment": environment(device, computed_in(config)),
        "provenance": provenance(tracker.started),
        "warnings": list(warnings),
    }


def _described(source: Source) -> dict[str, str]:
    """A plug-in by its package and version, or its file and sha256."""
    return {key: value for key, value in asdict(source).items() if value}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON in one rename; NaN, which is no JSON, becomes null."""
    make_folder(path.parent)
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())


def write_predictions(
    path: Path, task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]
) -> None:
    """A line per row: the row, its prediction, its gold answer; of several tasks its task too."""
    make_folder(path.parent)
    lines = [
        as_line(
            {
                **({TASK: task_of_row(row)} if task.parts else {}),
                **prediction_line(row, prediction),
                "gold": task.gold(row),
            }
        )
        for row, prediction in zip(rows, predictions, strict=True)
    ]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())


def prediction_line(row: Row, prediction: Prediction) -> dict[str, Any]:
    """The row as its file has it, and what is said of it: plain data for a line of JSON."""
    return {"row": plain(source_of(row)), "prediction": plain(prediction)}


def write_bad_rows(path: Path, rows: Sequence[BadRow]) -> None:
    """A line per row that was left out, see `bad_line`; without rows no file."""
    if rows:
        write_atomic(path, "".join(f"{as_line(bad_line(row))}\n" for row in rows).encode())
    else:
        path.unlink(missing_ok=True)


def as_line(content: Mapping[str, Any]) -> str:
    """JSON on one line, without its end; NaN becomes null."""
    return json.dumps(plain(content), ensure_ascii=False, default=str)


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
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # psutil knows the peak on Windows alone, and Windows has no such module

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


GIT_SECONDS = 5.0
"""Longest wait for each of git's two answers; a large repository on a slow disk may need more."""
_GIT = (
    *("git", "--no-optional-locks"),
    # Neither answer may run a program that the repository's own settings name.
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
)


def now() -> str:
    """The local time with its zone, ISO 8601, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def provenance(started: str | None) -> dict[str, Any]:
    """`provenance` of metrics.json; the run ends now. `started`: its first start, as of `now`."""
    return {
        "command": command_line(),
        "git": git_state(),
        "host": _printable(platform.node()) or None,
        "started": started,
        "ended": now(),
    }


def command_line() -> str | None:
    """What was typed, quoted for a shell; None where there is no command and no script.

    `ptv2 ...` for the command, `SCRIPT ...` for a Python program that trains by itself.
    """
    program, *arguments = sys.argv or [""]
    if program in {"", "-c", "-m"}:
        return None
    path = Path(program)
    ours = path.stem == "ptv2" or path.parts[-2:] == ("ptv2_cli", "__main__.py")
    return _printable(shlex.join(["ptv2" if ours else program, *arguments]))


@cache
def git_state() -> dict[str, Any] | None:
    """`commit` of the working folder's repository, and whether tracked files differ (`dirty`).

    None without git, without a repository or before its first commit; `dirty` is None where git
    did not answer in time. Asked once in a process: a long run keeps the state it began with.
    """
    commit = _git("rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    """What git answers, None where it cannot."""
    try:
        done = subprocess.run(
            [*_GIT, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _printable(text: str) -> str:
    """The text without bytes that are no UTF-8, which JSON cannot hold."""
    return text.encode("utf-8", "replace").decode()
