"""Candidates made ready: each an experiment with its fingerprint, duplicates merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.config.merge import NAMED
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import ConfigError, InputError, Problem, gather
from ptv2_cli.runs.memo import Memo
from ptv2_cli.runs.resolve.resolved_config import resolve_names
from ptv2_cli.runs.resolved_run import ResolvedRun, prepare
from ptv2_cli.runs.results import plain
from ptv2_cli.sweeps.axes import SEED
from ptv2_cli.sweeps.plan import Candidate, told
from ptv2_cli.sweeps.trial_record import Entry

DATA_SECTIONS = {"task", "selection", "report"}
"""Sections on which it depends which files are read."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep, ready to train; or refused, with the reasons."""

    entry: Entry
    candidate: Candidate
    resolved_run: ResolvedRun | None
    refusal: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """All trials of one command, and the name of the sweep they belong to."""

    name: str
    fingerprint: str
    """Of what all trials share: the configs without the keys that are swept."""
    trials: tuple[Trial, ...]
    merged: int
    """How many candidates were the same run as another one."""


def prepare_all(candidates: Sequence[Candidate], output: Path, *, offline: bool) -> Prepared:
    """Decide every candidate, read the data once, name the directories; write nothing.

    Raises:
        ConfigError: an unknown option or a value of the wrong type, in whichever candidate.
        InputError: not one of the candidates can run; with all reasons.
    """
    check_names(candidates)
    memo = Memo()
    trials: dict[str, Trial] = {}
    for candidate in candidates:
        trial = _prepared(candidate, output, offline, memo)
        trials.setdefault(trial.entry.fingerprint, trial)
    ready = [trial for trial in trials.values() if trial.resolved_run is not None]
    if not ready:
        gather(dict.fromkeys(p for trial in trials.values() for p in trial.refusal))
    name, mark = _identity(list(trials.values()))
    return Prepared(name, mark, tuple(trials.values()), len(candidates) - len(trials))


def check_names(candidates: Sequence[Candidate]) -> None:
    """Options of methods and tasks, before any data is read.

    Raises:
        ConfigError: with all that is wrong with them.
    """
    problems: list[Problem] = []
    for candidate in candidates:
        try:
            resolve_names(candidate.loaded)
        except ConfigError as error:
            problems += told(error.problems, candidate.axes)
    gather(dict.fromkeys(problems), ConfigError)


def _prepared(candidate: Candidate, output: Path, offline: bool, memo: Memo) -> Trial:
    try:
        resolved_run = prepare(candidate.loaded, output, offline=offline, memo=memo)
    except InputError as error:
        config, refused = candidate.loaded.config, {"refused": "true"}
        mark = fingerprint(config.model_dump(), refused)
        entry = _entry(candidate, config, refused, mark)
        entry = replace(entry, refused=True)
        return Trial(entry, candidate, None, tuple(told(error.problems, candidate.axes)))
    config = resolved_run.resolved.config
    entry = _entry(candidate, config, resolved_run.identities, resolved_run.fingerprint)
    return Trial(entry, candidate, resolved_run)


def _entry(
    candidate: Candidate, config: RunConfig, identities: Mapping[str, str], mark: str
) -> Entry:
    content = config.model_dump()
    return Entry(
        fingerprint=mark,
        setting=fingerprint(content, identities, {SEED}),
        config=candidate.name,
        values=_values(candidate, content),
        seed=int(config.train.seed),
        task=config.task.name,
        split=config.selection.split,
        metric=config.selection.metric,
        mode=config.selection.mode,
    )


def _values(candidate: Candidate, decided: Mapping[str, Any]) -> dict[str, Any]:
    """The swept values but for the seed; what the config resolves (prompt_len, null) as resolved.

    A mapping that is only a name is that name.
    """
    values: dict[str, Any] = {}
    for axis, value in zip(candidate.axes, candidate.values, strict=True):
        if axis.key == SEED:
            continue
        if isinstance(value, dict) and set(value) == {"name"}:
            value = value["name"]
        if not isinstance(value, dict | list | str):
            value = _at(decided, axis.path)
        values[axis.key] = plain(value)
    return values


def _at(data: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, Mapping) else None
    return data["name"] if isinstance(data, Mapping) and path[-1] in NAMED else data


def _identity(trials: Sequence[Trial]) -> tuple[str, str]:
    """The sweep's name, and the fingerprint of what its trials share, config by config."""
    first: dict[Path, Trial] = {}
    for trial in trials:  # one that is ready knows the data; a refused one stands in
        path = trial.candidate.loaded.path
        if path not in first or (
            first[path].resolved_run is None and trial.resolved_run is not None
        ):
            first[path] = trial
    names = list(dict.fromkeys(trial.candidate.name for trial in first.values()))
    name = names[0] if len(names) == 1 else f"{names[0]}+{len(names) - 1}"
    marks = sorted(_base(trial) for trial in first.values())
    return name, marks[0] if len(marks) == 1 else fingerprint({"configs": marks}, {})


def _base(trial: Trial) -> str:
    """Fingerprint of one config without the swept keys, and of which keys those are."""
    axes = trial.candidate.axes
    shared = trial.candidate.loaded.config.model_dump()
    for axis in axes:
        holder: Any = shared
        for part in axis.path[:-1]:
            holder = holder.get(part) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder.pop(axis.path[-1], None)
    swept = {axis.path[0] for axis in axes}
    known = dict(trial.resolved_run.identities) if trial.resolved_run else {}
    if swept & DATA_SECTIONS:
        known = {key: value for key, value in known.items() if key == "backbone"}
    if "backbone" in swept:
        known.pop("backbone", None)
    return fingerprint({**shared, "swept keys": sorted(axis.key for axis in axes)}, known)
