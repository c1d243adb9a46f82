"""A finished run opened to look at its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ptv2_cli.data.rows import Row
from ptv2_cli.errors import RunError
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.finished import load_run_config, open_best_session, resolve_finished
from ptv2_cli.runs.rescore import canonical_split
from ptv2_cli.runs.resolve.offline_rules import require_offline
from ptv2_cli.runs.rows.data import read_split
from ptv2_cli.runs.session import Session
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.multi import task_of_row


def open_for_inspection(
    directory: RunDirectory,
    *,
    split: str | None,
    rows: int,
    device: torch.device,
    offline: bool,
) -> tuple[Session, str]:
    """A run with its best weights and the first rows of a split, and the split's name.

    Args:
        directory: the run.
        split: default: the split that chose the epoch.
        rows: how many are read at most; of several tasks, equal numbers of each.
        device: where it computes.
        offline: never touch the network.

    Raises:
        InputError: there is no such split.
        RunError: the run has not finished, has no prompt, or its backbone is another one now.
        CheckpointError: its checkpoint is missing or damaged.
        DataError: the data cannot be read.
    """
    split = canonical_split(split)
    metrics = directory.read_metrics()
    loaded = load_run_config(directory)
    require_offline(loaded, offline=offline)
    resolved = resolve_finished(directory, metrics, loaded, offline=offline)
    if not resolved.method.uses_prompt:
        raise RunError.at(
            str(directory.path),
            f"{resolved.config.method.name} has no prompt to look at",
            "name a run of ptuning_v2, prompt_tuning or ptuning_v1",
        )
    split = split or str(metrics["selection"]["split"])
    found = read_split(resolved, split, None, offline=offline)
    found = replace(found, rows=_first(resolved.task, found.rows, rows))
    session, _ = open_best_session(directory, metrics, resolved, {split: found}, device)
    return session, split


def _first(task: Task, rows: Sequence[Row], count: int) -> Sequence[Row]:
    if not task.parts:
        return rows[:count]
    of_task: dict[str, list[Row]] = {}
    for row in rows:
        of_task.setdefault(task_of_row(row), []).append(row)
    share = max(count // len(task.parts), 1)
    return [row for group in of_task.values() for row in group[:share]]
