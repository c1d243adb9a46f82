"""Finished runs: how they are found, and what reports read of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ptv2_cli.config.fingerprint import IGNORED, LATER
from ptv2_cli.errors import Problem, RunError, gather
from ptv2_cli.runs.directory import RunDirectory

SPLITS = ("train", "validation", "test")
DEPTH = 4
"""How far below a named folder runs are looked for: PARENT/project/runs/RUN is three down."""


@dataclass(frozen=True)
class ReportedRun:
    """A finished run: its directory and its metrics.json."""

    directory: RunDirectory
    metrics: Mapping[str, Any]
    prefix: str = ""
    """What stands before its metrics' names in history.jsonl: one of several tasks."""

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.directory.path.name

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.metrics["task"]["name"])

    @property
    def method(self) -> str:
        """The method's name, with what makes it a row of its own: `ptuning_v2, imported`."""
        return ", ".join(filter(None, (str(self.metrics["method"]), self.origin)))

    @property
    def origin(self) -> str | None:
        """How the run came here if `ptv2 train` did not make it: `imported` or `folded`."""
        origin = self.metrics.get("origin")
        return None if origin is None else str(origin["kind"]).partition(" ")[0]

    @property
    def imported(self) -> bool:
        """Whether it was trained elsewhere: its config's seed, rate and epochs say nothing."""
        return self.origin == "imported"

    @property
    def peak_bytes(self) -> int | None:
        """Peak of memory while it was trained; None if it was trained elsewhere."""
        if self.imported:
            return None
        found = (self.metrics.get("memory") or {}).get("peak_bytes")
        return None if found is None else int(found)

    @property
    def prompt_len(self) -> int | None:
        """Tokens of prompt, None for methods without one."""
        found = self.metrics["prompt_len"]
        return None if found is None else int(found)

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.metrics["seed"])

    @property
    def diverged(self) -> bool:
        """Whether the loss became infinite, so that the run's scores say nothing."""
        return bool(self.metrics["status"] == "diverged")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Dotted config keys that can change the result, with their values; no seed."""
        flat = flatten(self.metrics["config"])
        unread = {f"task.limit.{split}" for split in SPLITS if split not in self.metrics["data"]}
        # Runs of earlier versions lack these keys, and did what their first values say.
        unread |= {key for key, value in LATER.items() if flat.get(key) == value}
        kept = {k: value for k, value in flat.items() if not _ignored(k) and k not in unread}
        train = self.metrics["data"]["train"]
        # The selection split named holdout is cut from train by the seed: not a setting.
        rows = None if "holdout" in self.metrics["data"] else train["rows"]
        # Two checkpoints are never two seeds of one setting.
        origin = {"checkpoint": self.metrics["origin"]["sha256"][:8]} if self.imported else {}
        return {
            **kept,
            **origin,
            "backbone.weights": str(self.metrics["backbone"]["identity"])[:8],
            "train data": f"{str(train['sha256'])[:8]}" + (f"/{rows}" if rows else ""),
        }

    def default_split(self) -> str:
        """The reported split that people mean: validation, or the first one reported."""
        splits = list(self.metrics["metrics"])
        return "validation" if "validation" in splits or not splits else str(splits[0])

    def score(self, split: str, metric: str) -> float | None:
        """A score at the chosen epoch, as a fraction; None if the run has none of that name."""
        found = self.metrics["metrics"].get(split, {}).get(metric)
        if found is None and not self.prefix and self._selected(split, metric):
            # A holdout chooses the epoch without being reported.
            found = self.metrics["selection"].get("value")
        return None if found is None else float(found)

    def standard_error(self, split: str, metric: str) -> float | None:
        """Standard error of a score over rows; None where the run recorded none.

        Every run has that of the score that chose the epoch, one that writes texts has all.
        """
        if self.prefix:
            return None
        if self._selected(split, metric):
            found = self.metrics.get("standard_error")
        else:
            detail = self.metrics.get("detail", {}).get(split, {})
            found = detail.get("standard_errors", {}).get(metric)
        return None if found is None else float(found)

    def majority(self, split: str, metric: str) -> float | None:
        """The majority baseline's score; None of all splits but the one that chose the epoch."""
        found = (self.metrics.get("majority_baseline") or {}).get(metric)
        chose = self.metrics["selection"]["split"] == split
        return float(found) if chose and found is not None else None

    @cached_property
    def retention(self) -> Mapping[str, Any] | None:
        """What the run measured of retention, or `ptv2 eval --retention` did later."""
        measured = self.metrics.get("retention")
        try:
            if measured is None:
                text = self.directory.evaluation("retention").read_text(encoding="utf-8")
                measured = json.loads(text)["retention"]
            return {"kl": float(measured["kl"]), "sha256": str(measured["sha256"])}
        except (OSError, ValueError, KeyError, TypeError):  # not measured, or damaged, or no number
            return None

    def stuck(self, split: str) -> bool:
        """Whether the run gave one answer to every row of a split that has several.

        Where its metrics.json counts no classes: whether all its scores are those of the majority
        baseline, such as no entity anywhere, or no answer to any question.
        """
        confusion = self.metrics.get("detail", {}).get(split, {}).get("confusion")
        if confusion:
            golds = sum(any(row.values()) for row in confusion.values())
            guesses = {name for row in confusion.values() for name, rows in row.items() if rows}
            return golds > 1 and len(guesses) == 1
        scores = self.metrics["metrics"].get(split, {})
        return bool(scores) and all(
            self.majority(split, name) == value for name, value in scores.items()
        )

    def _selected(self, split: str, metric: str) -> bool:
        selection = self.metrics["selection"]
        return bool((selection["split"], selection["metric"]) == (split, metric))

    def data_of(self, split: str) -> tuple[str, int | None]:
        """What identifies a split's rows: hash of its file and how many rows were read.

        A holdout is another part of train for every seed: there the file alone counts.
        """
        data = self.metrics["data"].get(split, {})
        rows = None if split == "holdout" else data.get("rows")
        return str(data.get("sha256")), rows


@dataclass(frozen=True)
class FoundRuns:
    """The runs of some folders: the finished ones, the others, and copies left out."""

    runs: tuple[ReportedRun, ...]
    unfinished: tuple[RunDirectory, ...] = ()
    copies: tuple[RunDirectory, ...] = ()


def find_runs(folders: Sequence[Path]) -> FoundRuns:
    """The runs in `folders`, each of which is a run or holds runs, at most DEPTH folders down.

    Of runs with one and the same fingerprint, which are one result, the first that was trained
    counts, or the first.

    Raises:
        RunError: a folder is missing or holds no run, none has finished, or a metrics.json is
            damaged or of another schema version; all of these at once.
    """
    found, problems = scan_runs(folders)
    if not problems and not found.runs:
        problems.append(_none_finished(folders, found.unfinished))
    gather(problems, RunError)
    return found


def scan_runs(folders: Sequence[Path]) -> tuple[FoundRuns, list[Problem]]:
    """As `find_runs`, but with what is wrong beside the runs that can be read."""
    problems: list[Problem] = []
    directories: dict[Path, RunDirectory] = {}
    for folder in folders:
        found = list(run_directories(folder))
        if not found:
            problems.append(_empty(folder))
        directories |= {run.path.resolve(): run for run in found}
    runs: dict[str, ReportedRun] = {}
    unfinished, copies = [], []
    for directory in directories.values():
        if not directory.finished:
            unfinished.append(directory)
            continue
        try:
            run = ReportedRun(directory, directory.read_metrics())
        except RunError as error:
            problems += error.problems
            continue
        mark = str(run.metrics.get("fingerprint"))
        kept = runs.setdefault(mark, run)
        if kept.origin and not run.origin:  # a folded copy was found before the run itself
            runs[mark], kept, run = run, run, kept
        if kept is not run:
            copies.append(run.directory)
    return FoundRuns(tuple(runs.values()), tuple(unfinished), tuple(copies)), problems


def flatten(content: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Nested mappings as one of dotted keys; lists stay values, empty mappings vanish."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        here = (*path, str(key))
        if isinstance(value, Mapping):
            flat |= flatten(value, here)
        else:
            flat[".".join(here)] = value
    return flat


def plain(value: Any) -> str:
    """A config value as people write it: `0.006`, `null`, `a, b`, `{name: lora, r: 8}`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(inner) for inner in value)
    if isinstance(value, Mapping):  # a part of `combined`; null is an option that is not given
        given = (f"{key}: {plain(inner)}" for key, inner in value.items() if inner is not None)
        return f"{{{', '.join(given)}}}"
    return str(value)


def _ignored(key: str) -> bool:
    ignored = IGNORED | {"train.seed", "train.eval_batch_size", "report", "method.name"}
    return key in ignored | {"prompt_len", "selection.mode"} or key.split(".")[0] in ignored


def run_directories(folder: Path, depth: int = DEPTH) -> Iterator[RunDirectory]:
    """The run that `folder` is, else the runs below it, by name."""
    run = RunDirectory(folder)
    if run.is_run:
        yield run
    elif depth:
        for inner in _folders(folder):
            yield from run_directories(inner, depth - 1)


def _folders(folder: Path) -> list[Path]:
    """The folders in `folder`, by name, without hidden ones; none where it cannot be read."""
    try:
        inner = [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []
    return sorted(path for path in inner if not path.name.startswith("."))


def _empty(folder: Path) -> Problem:
    what = "holds no run" if folder.is_dir() else "there is no such folder of runs"
    return Problem(
        str(folder), what, "ptv2 train CONFIG makes a run under runs/; or name its folder"
    )


def _none_finished(folders: Iterable[Path], unfinished: Sequence[RunDirectory]) -> Problem:
    where = ", ".join(map(str, folders))
    names = ", ".join(run.path.name for run in unfinished[:5])
    what = f"holds no finished run; {len(unfinished)} unfinished: {names}"
    return Problem(where, what, unfinished[0].resume_hint)


def parts(run: ReportedRun) -> Iterator[ReportedRun]:
    """The run itself, or a view for each of the tasks that it trained together."""
    tasks = run.metrics["task"].get("tasks")
    if not tasks:
        yield run
        return
    for number, task in enumerate(tasks):
        yield _view(run, number, task, len(tasks))


def _view(run: ReportedRun, number: int, task: Mapping[str, Any], count: int) -> ReportedRun:
    metrics, name = run.metrics, task["as"]
    prefix = f"{name}."
    config = metrics["config"]
    return replace(
        run,
        prefix=prefix,
        metrics={
            **metrics,
            "task": task,
            "method": f"{metrics['method']}, {count} tasks",
            "selection": {**metrics["selection"], "metric": task["metric"]},
            "metrics": {split: _own(found, prefix) for split, found in metrics["metrics"].items()},
            "majority_baseline": _own(metrics["majority_baseline"] or {}, prefix),
            "detail": {split: found.get(name, {}) for split, found in metrics["detail"].items()},
            "data": {split: _data(data, number, name) for split, data in metrics["data"].items()},
            "config": {
                **config,
                "task": config["task"]["tasks"][number],
                "selection": {**config["selection"], "metric": task["metric"]},
            },
        },
    )


def _own(scores: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): value
        for name, value in scores.items()
        if name.startswith(prefix)
    }


def _data(data: Mapping[str, Any], number: int, name: str) -> dict[str, Any]:
    """What identifies this task's rows of a split."""
    return {**data, "sha256": data["sha256"].split("+")[number], "rows": data["tasks"][name]}
