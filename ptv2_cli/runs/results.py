"""The result files of a run: metrics.json, history.jsonl, predictions/*.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ptv2_cli.data.formats import BadRow
from ptv2_cli.data.rows import Row, source_of
from ptv2_cli.files import make_folder, write_atomic
from ptv2_cli.registry import Source
from ptv2_cli.runs.environment import environment, provenance
from ptv2_cli.runs.evaluation import Evaluation
from ptv2_cli.runs.prediction.prediction_stream import bad_line
from ptv2_cli.runs.rows.data import RunData
from ptv2_cli.runs.run_files import PREDICTIONS_SCHEMA, SCHEMA_VERSION
from ptv2_cli.runs.session import Session
from ptv2_cli.runs.training_record import TrainingRecord
from ptv2_cli.scoring.scores import Prediction
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.multi import TASK, task_of_row


def build_metrics(
    session: Session,
    record: TrainingRecord,
    *,
    status: str,
    chosen: Mapping[str, Evaluation],
    final: Mapping[str, Mapping[str, float]],
    fingerprint: str,
    warnings: Sequence[str],
    peak: int,
    retention: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All of metrics.json.

    Args:
        session: the run.
        record: what it has done.
        status: finished, early_stopped or diverged.
        chosen: evaluations at the chosen epoch.
        final: scores at the last one.
        fingerprint: the run's.
        warnings: what the user was told.
        peak: bytes, see `peak_bytes`; of several processes the largest.
        retention: what was measured of the chosen epoch; None: nothing, and the key is left out.
    """
    resolved, data, device = session.resolved, session.resolved_run.data, session.device
    config, task = resolved.config, resolved.task
    selection, train = config.selection, config.train
    best = record.best or {}
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
            **({} if train.average is None else {"averaged_steps": best.get("averaged_steps", 0)}),
        },
        **({} if record.lr is None else {"lr": record.lr}),
        "metrics": {name: chosen[name].scores.metrics for name in reported if name in chosen},
        "final": {name: dict(final[name]) for name in reported if name in final},
        "evaluations": len(record.history),
        "majority_baseline": majority_baseline(task, data, selection.split),
        "standard_error": selected.scores.standard_errors.get(selection.metric or task.metric)
        if selected
        else None,
        "detail": {name: chosen[name].scores.detail for name in reported if name in chosen},
        **({} if retention is None else {"retention": dict(retention)}),
        "parameters": session.learner.counts(),
        "timing": _timing(record),
        "lanes": record.lanes,
        "memory": {"peak_bytes": peak},
        "data": session.data.summary(),
        "data_note": data.note,
        "class_weights": _by_label(task, data.class_weights(train.class_weights)),
        "seed": train.seed,
        "config": config.model_dump(mode="json"),
        "plugins": [_described(source) for source in resolved.plugins],
        "environment": environment(device, config, session.group.size),
        "provenance": provenance(record.started),
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
    """The row as its file has it and its prediction, as plain data for a line of JSON."""
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


def _by_label(task: Task, weights: Sequence[float] | None) -> dict[str, float] | None:
    return None if weights is None else dict(zip(task.labels, weights, strict=True))


def _timing(record: TrainingRecord) -> dict[str, float | None]:
    seconds = record.train_seconds
    return {
        "train_seconds": round(seconds, 3),
        "examples_per_second": round(record.rows / seconds, 3) if seconds else None,
        "tokens_per_second": round(record.tokens / seconds, 3) if seconds else None,
        "eval_seconds": round(record.eval_seconds, 3),
    }


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
