"""Trained runs, their logits, and the Python code in the README of an export."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tiny
import torch
from torch import Tensor

from ptv2_cli.inputs.batch import Batch, collate
from ptv2_cli.interop.opened import open_finished
from ptv2_cli.interop.to_peft import Written, export_peft
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.finished import open_best_session
from ptv2_cli.runs.session import Session

STEPS = {"steps": 3, "batch_size": 4, "lr": 0.1, "seed": 11}
WRITERS = {
    "superglue/rte": tiny.write_rte,
    "ner/conll2003": tiny.write_ner,
    "qa/squad": tiny.write_squad,
}


def make_run(
    folder: Path, backbone: Path, task: str = "superglue/rte", **changes: Any
) -> RunDirectory:
    """A run of three steps whose prompt is far from zero."""
    data = folder / "data"
    WRITERS[task](data, train=8, validation=6)
    method = {"init": {"normal": 0.7}, **changes.pop("method", {})}
    if method.setdefault("name", "ptuning_v2") != "ptuning_v2":
        del method["init"]
    config = tiny.write_config(
        folder / "config.yaml",
        backbone,
        data,
        method=method,
        task={"name": task, "data": str(data), "max_len": 24},
        **{"train": STEPS, **changes},
    )
    session, _ = tiny.trained(config, folder / "runs")
    return session.resolved_run.directory


def reopened(run: RunDirectory) -> Session:
    """The run's model, from its files."""
    found = open_finished(run, offline=True)
    session, _ = open_best_session(run, found.metrics, found.resolved, {}, tiny.CPU)
    session.learner.eval()
    return session


def batch_of(session: Session, data: Path) -> Batch:
    """The validation rows as one padded batch."""
    from ptv2_cli.runs.rows.data import read_split

    rows = read_split(session.resolved, "validation", None, offline=True).rows
    encoder = session.data.encoder
    features = session.resolved.task.encode(rows, encoder)
    assert len({len(feature.input_ids) for feature in features}) > 1, "no padding is tested"
    return collate(features, encoder.pad_id, session.resolved.task.kind)


def logits_of(session: Session, batch: Batch) -> Tensor:
    """The outputs of the run's head before a softmax."""
    seen: list[Tensor] = []
    hook = session.learner.head.linear.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    with torch.no_grad():
        session.learner(batch)
    hook.remove()
    return seen[0]


def exported(run: RunDirectory, folder: Path) -> Written:
    """The run as a PEFT adapter in `folder`."""
    return export_peft(open_finished(run, offline=True), folder)


def by_readme(folder: Path, batch: Batch) -> Tensor:
    """The logits of a batch by the code in the folder's README.md."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    found: Tensor = names["logits"](inputs)
    return found


def real(batch: Batch, logits: Tensor) -> Tensor:
    """Logits without those at padding."""
    return logits[batch.attention_mask.bool()] if logits.dim() == 3 else logits
