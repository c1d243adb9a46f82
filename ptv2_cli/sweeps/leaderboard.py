"""The table of settings: mean and standard deviation over seeds, the best, the grid's edge."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from ptv2_cli.errors import RunError
from ptv2_cli.report.noise import Contest, Verdict
from ptv2_cli.report.runs import ReportedRun
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.sweeps.records import ENDED, Outcome, TrialRecord

WIDEST = {int: 2.0, float: 3.0}
"""Largest factor between the grid's edge and the value suggested beyond it."""


@dataclass(frozen=True)
class Setting:
    """Trials that differ only in the seed."""

    records: tuple[TrialRecord, ...]
    scores: tuple[float, ...]
    """Selection metric of the trials that have a score, fractions."""
    unfinished: int
    """Trials that have yet to run."""
    failed: int
    diverged: int
    pruned: int
    """Trials that a search has given up."""
    verdict: Verdict | None = None
    """Its comparison with the best; None where nothing was compared."""
    stuck: int = 0
    """Runs that predict the same for all rows."""

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None without a score."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds (n - 1); None below two scores."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def whole(self) -> bool:
        """Whether every seed has its score."""
        return len(self.scores) == len(self.records)


@dataclass(frozen=True)
class Edge:
    """The best value of a key is the lowest or the highest of its list."""

    key: str
    value: float
    lowest: bool
    beyond: float | None
    """A value to try next; None where there is none."""


@dataclass(frozen=True)
class Leaderboard:
    """The settings with comparable scores: one task, split and metric."""

    task: str
    split: str
    metric: str | None
    mode: str
    settings: tuple[Setting, ...]
    """In the plan's order."""
    majority: float | None = None
    """The score of a model that ignores its input; None where it is unknown."""
    error: float | None = None
    """Standard error of the best setting's score over rows; None where it is unknown."""

    @property
    def ranked(self) -> list[Setting]:
        """Best first, equals in the plan's order, settings without a score last."""
        sign = -1.0 if self.mode == "max" else 1.0

        def key(setting: Setting) -> tuple[bool, float]:
            mean = setting.mean
            return (mean is None, 0.0 if mean is None else sign * mean)

        return sorted(self.settings, key=key)

    @property
    def best(self) -> Setting | None:
        """The best of the settings that have all their seeds; if none has, the best of all."""
        scored = [setting for setting in self.ranked if setting.scores]
        return next((setting for setting in scored if setting.whole), scored[0] if scored else None)

    @property
    def keys(self) -> list[str]:
        """The swept keys of its settings, in the plan's order."""
        return list(dict.fromkeys(key for s in self.settings for key in s.records[0].values))

    @property
    def configs(self) -> list[str]:
        """The configs of its settings."""
        return list(dict.fromkeys(setting.records[0].config for setting in self.settings))

    def cells(self, setting: Setting) -> list[str]:
        """The cells that identify a setting: its config where there are several, its values."""
        record = setting.records[0]
        first = [record.config] if len(self.configs) > 1 else []
        values = record.values
        return first + [show(values[key]) if key in values else "-" for key in self.keys]

    def best_line(self) -> str:
        """The best setting and its score, in one line."""
        assert self.best is not None
        assert self.best.mean is not None
        spread = self.best.deviation
        score = f"{self.metric} {100 * self.best.mean:.1f}"
        score += f" +- {100 * spread:.1f}" if spread is not None else ""
        record = self.best.records[0]
        values = [f"{short(key)} {show(value)}" for key, value in record.values.items()]
        if len(self.configs) > 1 or not values:
            values.insert(0, record.config)
        return f"{', '.join(values)}: {score}{self._rivals()}"

    def words(self) -> Counter[str]:
        """Verdict -> number of settings: best, noise, worse, untested."""
        return Counter(s.verdict.word for s in self.settings if s.verdict is not None)

    def _rivals(self) -> str:
        """How many other settings the tests cannot tell from the best."""
        words = self.words()
        others = len(self.settings) - 1
        settings = "setting" if others == 1 else "settings"
        texts = [f"{words['noise']} of {others} other {settings} within its noise"] * bool(words)
        texts += [f"{words['untested']} not tested"] * bool(words["untested"])
        return "".join(f"; {text}" for text in texts)

    def edges(self) -> list[Edge]:
        """The keys whose best value is the lowest or the highest of its list."""
        if self.best is None:
            return []
        edges = (self._edge(key, self.best.records[0]) for key in self.keys)
        return [edge for edge in edges if edge is not None]

    def content(self) -> dict[str, Any]:
        """Plain data for results.json."""
        best = self.best
        return {
            "task": self.task,
            "split": self.split,
            "metric": self.metric,
            "mode": self.mode,
            "majority_baseline": self.majority,
            "standard_error": self.error,
            "settings": [
                {
                    "config": s.records[0].config,
                    "values": dict(s.records[0].values),
                    "mean": s.mean,
                    "deviation": s.deviation,
                    "seeds": len(s.scores),
                    "unfinished": s.unfinished,
                    "failed": s.failed,
                    "diverged": s.diverged,
                    "pruned": s.pruned,
                    "best": s is best,
                    "verdict": s.verdict.word if s.verdict else None,
                    "p": s.verdict.p if s.verdict else None,
                    "stuck": s.stuck,
                }
                for s in self.ranked
            ],
        }

    def _edge(self, key: str, best: TrialRecord) -> Edge | None:
        value = best.values.get(key)
        others = [s.records[0] for s in self.settings if _alike(s.records[0], best, key)]
        grid = sorted({v for e in others if is_number(v := e.values.get(key))})
        if not is_number(value) or len(grid) < 2 or value not in (grid[0], grid[-1]):
            return None
        lowest = value == grid[0]
        return Edge(key, value, lowest, _beyond(grid[::-1] if lowest else grid))


def make_leaderboards(
    records: Sequence[TrialRecord], outcomes: Mapping[str, Outcome]
) -> list[Leaderboard]:
    """The leaderboards of a sweep, in the plan's order."""
    groups: dict[tuple[str, str, str | None, str], dict[str, list[TrialRecord]]] = {}
    metrics = {(e.task, e.split): e.metric for e in records if e.metric is not None}
    for record in records:
        # A refused trial has no resolved metric: it joins the others of its task.
        metric = record.metric or metrics.get((record.task, record.split))
        board = groups.setdefault((record.task, record.split, metric, record.mode), {})
        board.setdefault(record.setting, []).append(record)
    return [
        Leaderboard(*board, tuple(_setting(group, outcomes) for group in settings.values()))
        for board, settings in groups.items()
    ]


def _setting(records: Sequence[TrialRecord], outcomes: Mapping[str, Outcome]) -> Setting:
    ends = [outcomes[record.fingerprint] for record in records]
    scored = [o.value for o in ends if o.scored and o.value is not None]
    failed = sum(outcome.status == "failed" for outcome in ends)
    pruned = sum(outcome.status == "pruned" for outcome in ends)
    diverged = sum(outcome.status in ENDED and not outcome.scored for outcome in ends)
    unfinished = len(ends) - len(scored) - failed - diverged - pruned
    return Setting(tuple(records), tuple(scored), unfinished, failed, diverged, pruned)


def short(key: str) -> str:
    """The name of a key in tables: `lr` for `train.lr`."""
    return {"train.lr": "lr", "train.seed": "seed"}.get(key, key)


def show(value: Any) -> str:
    """A value as YAML writes it on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {show(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(show, value)) + "]"
    return str(value)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _alike(one: TrialRecord, other: TrialRecord, key: str) -> bool:
    """Whether two settings differ in `key` at most."""

    def rest(record: TrialRecord) -> dict[str, Any]:
        return {name: value for name, value in record.values.items() if name != key}

    return one.config == other.config and rest(one) == rest(other)


def _beyond(grid: Iterable[float]) -> float | None:
    """The next value after the last of `grid`, by their last ratio, up to a factor of WIDEST."""
    *_, before, last = grid
    if last <= 0:
        return None
    whole = isinstance(last, int) and isinstance(before, int)
    widest = WIDEST[int if whole else float]
    ratio = last / before if before > 0 else widest
    beyond = last * min(max(ratio, 1 / widest), widest)
    if whole:
        return round(beyond) if round(beyond) not in (0, last) else None
    return float(f"{beyond:.2g}")


def judged(board: Leaderboard, outcomes: Mapping[str, Outcome], output: Path) -> Leaderboard:
    """The leaderboard with verdicts, stuck runs, majority baseline and standard error.

    Args:
        board: settings with their scores.
        outcomes: fingerprint -> outcome of its trial.
        output: the folder of the runs, whose metrics and predictions are read.
    """
    if board.metric is None or board.best is None:
        return board
    runs = [_runs(setting, outcomes, output) for setting in board.settings]
    best = next(i for i, setting in enumerate(board.settings) if setting is board.best)
    several = sum(bool(setting.scores) for setting in board.settings) > 1
    contest = Contest(runs, best, board.split, board.metric)
    verdicts = contest.verdicts() if several else [None] * len(runs)
    settings = [
        replace(setting, verdict=verdict, stuck=sum(run.stuck(board.split) for run in own))
        for setting, verdict, own in zip(board.settings, verdicts, runs, strict=True)
    ]
    errors = [run.standard_error(board.split, board.metric) for run in runs[best]]
    known = [error for error in errors if error is not None]
    baselines = (run.majority(board.split, board.metric) for own in runs for run in own)
    return replace(
        board,
        settings=tuple(settings),
        majority=next((value for value in baselines if value is not None), None),
        error=statistics.fmean(known) if known else None,
    )


def _runs(setting: Setting, outcomes: Mapping[str, Outcome], output: Path) -> list[ReportedRun]:
    """The setting's runs that have a score and whose files are still there."""
    runs = []
    for record in setting.records:
        outcome = outcomes[record.fingerprint]
        if outcome.scored and outcome.run is not None:
            directory = RunDirectory(output / outcome.run)
            try:
                runs.append(ReportedRun(directory, directory.read_metrics()))
            except RunError:
                continue
    return runs
