"""Evaluate a finished run again from its files: the same scores, or a reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.locate import Located, locate
from ptv2_cli.config.load import LoadedConfig, load_config
from ptv2_cli.config.suggestions import SPLITS
from ptv2_cli.data.rows import Split
from ptv2_cli.errors import InputError, MachineError, Problem, RunError
from ptv2_cli.runs.data import RunData, read_split
from ptv2_cli.runs.directory import RunDirectory, writing_at
from ptv2_cli.runs.resolve.offline_rules import require_offline
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig, resolve_config
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.results import write_json
from ptv2_cli.runs.row_selection import DRAWN
from ptv2_cli.runs.session import Session, open_session
from ptv2_cli.training.checkpoint import load_state


@dataclass(frozen=True)
class Compared:
    """One metric of one split, now and as logged; logged is None where nothing can be compared."""

    split: str
    metric: str
    value: float
    logged: float | None

    @property
    def verdict(self) -> str:
        """equal, differs, or - where there is nothing to compare with."""
        if self.logged is None:
            return "-"
        return "equal" if self.value == self.logged else "differs"


@dataclass
class Reloaded:
    """A finished run with its best weights in place."""

    directory: RunDirectory
    session: Session
    metrics: Mapping[str, Any]
    state: dict[str, float]
    data: Path | None
    """Other data than the run's own."""
    unwritten: tuple[Problem, ...] = ()
    """Why scores could not be written into the run's folder."""

    @property
    def exact(self) -> bool:
        """Whether scores must be equal: the run's own data, on CPU then and now."""
        logged = self.metrics["environment"]["device"]
        return self.data is None and logged == "cpu" and self.session.device.type == "cpu"

    def evaluate(self, split: str) -> list[Compared]:
        """Score a split, compare with metrics.json, and write it under eval/ if possible."""
        found = self.session.evaluate(split, self.state)
        logged = self.metrics["metrics"].get(split, {})
        if not self._same_data(split):
            logged = {}
        lines = [
            Compared(split, name, value, logged.get(name))
            for name, value in found.scores.metrics.items()
        ]
        self._note(
            self.file(split),
            {
                "split": split,
                "data": self.scored(split),
                "metrics": found.scores.metrics,
                "detail": found.scores.detail,
                "logged": logged or None,
                "equal": all(line.verdict == "equal" for line in lines) if logged else None,
                "seconds": round(found.seconds, 3),
                "device": self.session.device.type,
            },
        )
        return lines

    def file(self, split: str) -> Path:
        """Where the scores of a split stand.

        `eval/<split>.json` is of the run's own data; other data has its hash in the name, so that
        neither takes the place of the other.
        """
        mark = "" if self.data is None else f"-{self.scored(split)['sha256'][:8]}"
        return self.directory.evaluation(f"{split}{mark}")

    def scored(self, split: str) -> dict[str, Any]:
        """The data of a split: the path that was named (None: the run's own), files, hash, rows."""
        data = self.session.resolved_run.data
        return {
            "path": None if self.data is None else str(self.data.resolve()),
            "files": [str(path.resolve()) for path in data.splits[split].files],
            **data.summary()[split],
        }

    def _note(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write scores under eval/; where that cannot be done, they are still told."""
        try:
            with writing_at(path, "", "free some space to keep them", RunError):
                write_json(path, content)
        except (RunError, MachineError) as error:
            self.unwritten += error.problems

    def _same_data(self, split: str) -> bool:
        logged = self.metrics["data"].get(split, {})
        found = self.session.resolved_run.data.splits[split]
        return bool(logged.get("sha256") == found.sha256 and logged["rows"] == len(found.rows))


def canonical_split(split: str | None) -> str | None:
    """The split's own name: `dev` is validation; None stays None.

    Raises:
        InputError: there is no such split.
    """
    split = SPLITS.get(split or "", split)
    if split not in {None, "train", "validation", "test", "holdout"}:
        raise InputError.at("--split", f"unknown split {split!r}", "train, validation or test")
    return split


def reload_run(
    directory: RunDirectory,
    *,
    split: str | None,
    data: Path | None,
    device: torch.device,
    offline: bool,
) -> Reloaded:
    """Open a finished run to score it again.

    Args:
        directory: the run.
        split: default: validation of other data, else all splits that the run reports.
        data: other data than the run's own.
        device: where it computes.
        offline: never touch the network.

    Raises:
        InputError: there is no such split.
        RunError: it has not finished, or its backbone is another one now, or its holdout cannot be
            drawn again.
        CheckpointError: its checkpoint is missing or damaged.
        DataError: the data cannot be read.
    """
    split = canonical_split("validation" if split is None and data is not None else split)
    metrics = directory.read_metrics()
    loaded = open_config(directory)
    require_offline(loaded, offline=offline)
    resolved = trained_recipe(directory, metrics, loaded, offline=offline)
    wanted = [split] if split else list(metrics["metrics"])
    if data is None and "holdout" in wanted:
        _check_holdout(directory, metrics)
    found = {name: read_split(resolved, name, data, offline=offline) for name in wanted}
    session, state = open_best(directory, metrics, resolved, found, device)
    return Reloaded(directory, session, metrics, state, data)


def trained_recipe(
    directory: RunDirectory, metrics: Mapping[str, Any], loaded: LoadedConfig, *, offline: bool
) -> ResolvedConfig:
    """The resolved config of a finished run, with the backbone that it was trained on.

    Raises:
        BackboneError: the backbone cannot be found.
        RunError: it is another one now.
    """
    resolved = resolve_config(loaded, offline=offline)
    located = locate(resolved.config.backbone, offline=offline)
    _check_backbone(directory, metrics, located)
    return replace(resolved, located=located, method=resolved.method.without_init())


def open_best(
    directory: RunDirectory,
    metrics: Mapping[str, Any],
    resolved: ResolvedConfig,
    splits: dict[str, Split],
    device: torch.device,
    shared: Backbone | None = None,
) -> tuple[Session, dict[str, float]]:
    """The run's model with its best weights, and what its task tuned; see open_session.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    state = load_state(directory.checkpoints, "best", str(metrics["fingerprint"]))
    data = RunData(resolved.task, splits, demonstrations=state.get("demonstrations", []))
    resolved_run = ResolvedRun(resolved, data, str(metrics["fingerprint"]), directory)
    session = open_session(resolved_run, device, shared)
    return session, dict(session.load_best()["task_state"])


def open_config(directory: RunDirectory) -> LoadedConfig:
    """The run's config.

    Raises:
        RunError: it names a folder as its backbone, and that is gone.
    """
    loaded = load_config(directory.config)
    name = loaded.config.backbone.name
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise RunError.at(
            str(directory.path),
            f"its backbone is gone: there is no folder {name}",
            "bring it back to that place, or train the run again on another",
        )
    return loaded


def _check_holdout(directory: RunDirectory, metrics: Mapping[str, Any]) -> None:
    if metrics["data"].get("holdout", {}).get("drawn", 1) != DRAWN:
        raise RunError.at(
            str(directory.path),
            "its holdout was drawn by an earlier version of ptv2; drawn as now it would hold rows "
            "that the run was trained on",
            "score another split (--split validation, --data FILE), or train the run again",
        )


def _check_backbone(directory: RunDirectory, metrics: Mapping[str, Any], located: Located) -> None:
    changed = located.changes(metrics["backbone"])
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise RunError.at(
            str(directory.path),
            f"was trained on other files of {metrics['backbone']['name']} than are there now: "
            f"{', '.join(changed[:3])}{more}",
            "bring the backbone of that time back, or train the run again",
        )
