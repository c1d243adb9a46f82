"""Score a finished run again from its files, and compare with the scores in metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.backbones.language.lm_head import check_has_head
from ptv2_cli.config.retention import RetentionSection
from ptv2_cli.config.suggestions import SPLITS
from ptv2_cli.errors import ConfigError, InputError, MachineError, Problem, RunError
from ptv2_cli.runs.directory import RunDirectory, writing_at
from ptv2_cli.runs.finished import load_run_config, open_best_session, resolve_finished
from ptv2_cli.runs.resolve.offline_rules import require_offline
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.resolve.retention_rules import retention_obstacle, retention_text
from ptv2_cli.runs.results import write_json
from ptv2_cli.runs.retention import measure_retention
from ptv2_cli.runs.rows.data import read_split
from ptv2_cli.runs.rows.row_selection import DRAWN
from ptv2_cli.runs.session import Session
from ptv2_cli.threads import count_restored, go_on_with, typed_other


@dataclass(frozen=True)
class ScoreComparison:
    """A metric of a split, now and in metrics.json; None there if nothing can be compared."""

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
class RescoredRun:
    """A finished run with its best weights, ready to be scored."""

    directory: RunDirectory
    session: Session
    metrics: Mapping[str, Any]
    state: dict[str, float]
    data: Path | None
    """Other data than the run's own."""
    retention: RetentionSection | None = None
    """What is measured beside the scores; None: nothing."""
    unwritten: tuple[Problem, ...] = ()
    """Why scores could not be written to the run's folder."""

    @property
    def exact(self) -> bool:
        """Whether scores must be equal: the run's own data, on CPU then and now, equal threads."""
        logged = self.metrics["environment"]
        on_cpu = logged["device"] == self.session.device.type == "cpu"
        return self.data is None and on_cpu and not typed_other(logged["threads"])

    def evaluate(self, split: str) -> list[ScoreComparison]:
        """Score a split, compare with metrics.json, and write it under eval/ if possible."""
        with count_restored():
            if self.exact:
                go_on_with(self.metrics["environment"]["threads"])
            found = self.session.evaluate(split, self.state)
        logged = self.metrics["metrics"].get(split, {})
        if not self._same_data(split):
            logged = {}
        lines = [
            ScoreComparison(split, name, value, logged.get(name))
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

    def measure_retention(self) -> list[ScoreComparison]:
        """Measure retention, if it is asked for, and compare it as `evaluate` does scores."""
        if self.retention is None:
            return []
        with count_restored():
            if self.exact:
                go_on_with(self.metrics["environment"]["threads"])
            found = measure_retention(self.session, self.retention)
        logged = self.metrics.get("retention") or {}
        if any(logged.get(key) != found[key] for key in ("sha256", "tokens")):
            logged = {}
        self._note(self.directory.evaluation("retention"), {"retention": found})
        names = ("kl", "perplexity", "bare_perplexity")
        return [ScoreComparison("retention", n, found[n], logged.get(n)) for n in names]

    def file(self, split: str) -> Path:
        """The file with the scores of a split.

        `eval/<split>.json` is of the run's own data; other data has its hash in the name, so that
        neither takes the place of the other.
        """
        mark = "" if self.data is None else f"-{self.scored(split)['sha256'][:8]}"
        return self.directory.evaluation(f"{split}{mark}")

    def scored(self, split: str) -> dict[str, Any]:
        """The data of a split: the path that was given (None: the run's own), files, hash, rows."""
        data = self.session.resolved_run.data
        return {
            "path": None if self.data is None else str(self.data.resolve()),
            "files": [str(path.resolve()) for path in data.splits[split].files],
            **self.session.data.summary()[split],
        }

    def _note(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write scores under eval/; if that fails they are still printed."""
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


def open_for_rescoring(
    directory: RunDirectory,
    *,
    split: str | None,
    data: Path | None,
    retention: bool = False,
    device: torch.device,
    offline: bool,
) -> RescoredRun:
    """Open a finished run to score it again.

    Args:
        directory: the run.
        split: default: validation of other data, else all splits that the run reports.
        data: other data than the run's own.
        retention: measure retention too, as its config says, or by default on ptv2's own text.
            Without it, it is measured if the config says so and neither split nor data is given.
        device: where it computes.
        offline: never touch the network.

    Raises:
        InputError: there is no such split.
        RunError: it has not finished, or its backbone is another one now, or its holdout cannot be
            drawn again, or retention cannot be measured for it.
        BackboneError: retention is to be measured, and its weights have no language-model head.
        CheckpointError: its checkpoint is missing or damaged.
        DataError: the data cannot be read.
    """
    whole = split is None and data is None
    split = canonical_split("validation" if split is None and data is not None else split)
    metrics = directory.read_metrics()
    loaded = load_run_config(directory)
    require_offline(loaded, offline=offline)
    resolved = resolve_finished(directory, metrics, loaded, offline=offline)
    wanted = [split] if split else list(metrics["metrics"])
    if data is None and "holdout" in wanted:
        _check_holdout(directory, metrics)
    section = loaded.config.retention if whole or retention else None
    if retention:
        section = section or RetentionSection()
        _check_retention(directory, resolved)
    if section is not None:
        _check_text(directory, section)
    found = {name: read_split(resolved, name, data, offline=offline) for name in wanted}
    session, state = open_best_session(directory, metrics, resolved, found, device)
    return RescoredRun(directory, session, metrics, state, data, section)


def _check_retention(directory: RunDirectory, resolved: ResolvedConfig) -> None:
    hint = "leave --retention out"
    reason = retention_obstacle(resolved.method, resolved.shape)
    if reason is not None:
        raise RunError.at(str(directory.path), reason, hint)
    check_has_head(resolved.located, resolved.shape.family)


def _check_text(directory: RunDirectory, section: RetentionSection) -> None:
    """Check that the text of retention can be read, before anything is scored."""
    try:
        retention_text(section, "retention")
    except ConfigError as error:
        what = f"retention cannot be measured: {error.problems[0].what}"
        hint = "bring the text back; --split validation scores without retention"
        raise RunError.at(str(directory.path), what, hint) from None


def _check_holdout(directory: RunDirectory, metrics: Mapping[str, Any]) -> None:
    held_out = metrics["data"].get("holdout")
    if held_out is not None and held_out.get("drawn", 1) != DRAWN:
        raise RunError.at(
            str(directory.path),
            "its holdout was drawn by an earlier version of ptv2; drawn as now it would hold rows "
            "that the run was trained on",
            "score another split (--split validation, --data FILE), or train the run again",
        )
