"""Run directories with figures of our choice, as a finished run leaves them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ptv2_cli.runs.run_files import SCHEMA_VERSION

METRIC = {"ner/conll2003": "f1", "text/generation": "rouge_l"}

PREDICTED = {
    *("label", "probabilities", "tags", "entities", "answer", "start", "probability", "nbest"),
    *("null_score", "prediction"),
}
"""What a prediction adds to a flat line."""


def content(
    task: str = "superglue/cb",
    method: str = "ptuning_v2",
    prompt_len: int | None = 20,
    seed: int = 11,
    score: float | None = 0.5,
    *,
    split: str = "validation",
    data: str = "a" * 64,
    rows: int = 6,
    status: str = "finished",
    percent: float = 0.42,
    trainable: int = 50,
    seconds: float = 60.0,
    peak: int = 3 * 2**29,
    detail: dict[str, Any] | None = None,
    origin: dict[str, Any] | None = None,
    standard_error: float | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """A metrics.json; `settings` are config keys with `__` for the dot: `train__lr=0.01`."""
    metric = METRIC.get(task, "accuracy")
    config: dict[str, Any] = {
        "name": "made",
        "extends": None,
        "method": {"name": method},
        "head": {"name": "sequence"},
        "backbone": {"name": "tiny", "dtype": "fp32"},
        "task": {"name": task, "data": f"/data/{task}", "limit": {"train": None, "test": None}},
        "prompt_len": prompt_len,
        "train": {"lr": 0.01, "epochs": 3, "seed": seed},
        "selection": {"split": "validation", "metric": metric, "mode": "max"},
        "report": [split],
    }
    for key, value in settings.items():
        *sections, last = key.split("__")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    scores = {} if score is None else {split: {metric: score, "f1_macro": score / 2}}
    made = {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "task": {"name": task, "version": 1},
        "method": method,
        "prompt_len": prompt_len,
        "backbone": {"name": "tiny", "revision": None, "identity": "b" * 64},
        "selection": {"value": score, "epoch": 3.0, "step": 9, **config["selection"]},
        "metrics": scores,
        "majority_baseline": {metric: 0.25, "f1_macro": 0.1},
        "standard_error": standard_error,
        "detail": {split: detail or {}},
        "parameters": {
            "prompt": 42,
            "reparam": 0,
            "head": 8,
            "backbone": 10000,
            "trainable": trainable,
            "trainable_percent": percent,
            "prompt_percent": 0.42,
        },
        "timing": {"train_seconds": seconds, "examples_per_second": 9.0},
        "memory": {"peak_bytes": peak},
        "data_note": None,
        "data": {
            "train": {"rows": 9, "sha256": "c" * 64},
            split: {"rows": rows, "sha256": data},
        },
        "seed": seed,
        "config": config,
        "environment": {"torch": "2.13.0", "threads": 1, "device": "cpu"},
        "warnings": [],
    }
    if origin is not None:
        made["origin"] = origin
    text = json.dumps(made, sort_keys=True)
    return {"fingerprint": hashlib.sha256(text.encode()).hexdigest()[:8], **made}


def write(
    output: Path,
    metrics: dict[str, Any] | None = None,
    *,
    lines: Sequence[dict[str, Any]] = (),
    history: Sequence[float] = (),
    losses: Sequence[tuple[float, float]] = (),
    name: str | None = None,
    schema: int = 2,
    **made: Any,
) -> Path:
    """Write a finished run.

    `made` goes to `content`; `lines` are the predictions, flat as schema 1 has them, and written
    as `schema` has them.
    """
    metrics = content(**made) if metrics is None else metrics
    if schema > 1:
        metrics = {**metrics, "predictions_schema": schema}
        lines = [nested(line) for line in lines]
    named = f"run-{metrics['method']}-p{metrics['prompt_len'] or 0}-s{metrics['seed']}"
    folder = output / (name or f"{named}-{metrics['fingerprint']}")
    (folder / "predictions").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text(yaml.safe_dump(_valid(metrics["config"])))
    (split,) = metrics["metrics"] or ["validation"]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "predictions" / f"{split}.jsonl").write_text(text)
    metric = metrics["selection"]["metric"]
    evaluations = [
        {"epoch": float(at + 1), "step": at + 1, "metrics": {metric: value}}
        for at, value in enumerate(history)
    ]
    for line, (train, validation) in zip(evaluations, losses, strict=False):
        line |= {"train_loss": train, "validation_loss": validation}
    (folder / "history.jsonl").write_text("".join(json.dumps(x) + "\n" for x in evaluations))
    return folder


def nested(line: dict[str, Any]) -> dict[str, Any]:
    """A flat line of predictions as schema 2 has it; a row that has `task` is one of several."""
    answer: Any = {key: value for key, value in line.items() if key in PREDICTED}
    row = {key: value for key, value in line.items() if key not in {*PREDICTED, "task", "gold"}}
    task = {"task": line["task"]} if "task" in line else {}
    if "written" in line:
        del row["written"]
        answer = line["written"]
    if "prediction" in line:
        row |= {"label": line["label"]}
        answer = line["prediction"]
    return {**task, "row": row, "prediction": answer, "gold": line["gold"]}


def flat(line: dict[str, Any]) -> dict[str, Any]:
    """A line of predictions of schema 2 as schema 1 had it."""
    answer = line["prediction"]
    answer = answer if isinstance(answer, dict) else {"prediction": answer}
    return {key: line[key] for key in ("task",) if key in line} | {
        **line["row"],
        **answer,
        "gold": line["gold"],
    }


def in_schema_1(run: Path) -> Path:
    """A finished run of today with its metrics and predictions as schema 1 had them."""
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["predictions_schema"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    for path in (run / "predictions").glob("*.jsonl"):
        lines = [flat(json.loads(line)) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def unfinished(output: Path, name: str = "killed") -> Path:
    """A run that never ended."""
    folder = output / name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("method: finetune\n")
    return folder


def _valid(config: dict[str, Any]) -> dict[str, Any]:
    """What config.yaml may hold: no key that is null where null is no value."""
    return {key: value for key, value in config.items() if value is not None}
