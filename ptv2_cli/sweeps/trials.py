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
from ptv2_cli.runs.data import Memo
from ptv2_cli.runs.resolve.resolved_config import resolve_names
from ptv2_cli.runs.resolved_run import ResolvedRun, prepare
from ptv2_cli.runs.results import plain
from ptv2_cli.sweeps.axes import SEED
from ptv2_cli.sweeps.engine import TrialSpec, remember
from ptv2_cli.sweeps.grid import Combination, told
from ptv2_cli.sweeps.records import TrialRecord

DATA_SECTIONS = {"task", "selection", "report"}
"""Sections on which it depends which files are read."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep, ready to train; or refused, with the reasons."""

    number: int
    """Position in the plan, from 1."""
    record: TrialRecord
    combination: Combination
    resolved_run: ResolvedRun | None
    refusal: tuple[Problem, ...] = ()

    @property
    def spec(self) -> TrialSpec:
        """The trial as an engine gets it; only of one that can run."""
        run = self.resolved_run
        assert run is not None
        return TrialSpec(
            number=self.number,
            name=run.directory.path.name,
            fingerprint=run.fingerprint,
            config=run.resolved.config.model_dump(mode="json"),
            output=str(run.directory.path.parent.absolute()),
            notes=run.resolved.notes,
        )


@dataclass(frozen=True)
class Plan:
    """All trials of one command, and the name of the sweep they belong to."""

    name: str
    fingerprint: str
    """Of what all trials share: the configs without the keys that are swept."""
    trials: tuple[Trial, ...]
    merged: int
    """How many combinations were the same run as another one."""


def plan_trials(
    combinations: Sequence[Combination], output: Path, *, offline: bool, memo: Memo | None = None
) -> Plan:
    """Resolve every combination, read the data once, name the directories; write nothing.

    The memo holds the prepared runs afterwards, so that an engine of this process has them too.

    Raises:
        ConfigError: an unknown option or a value of the wrong type, in whichever combination.
        InputError: not one of the combinations can run; with all reasons.
    """
    check_names(combinations)
    memo = memo or Memo()
    trials: dict[str, Trial] = {}
    for combination in combinations:
        trial = _prepared(combination, output, offline, memo, len(trials) + 1)
        trials.setdefault(trial.record.fingerprint, trial)
    ready = [trial for trial in trials.values() if trial.resolved_run is not None]
    if not ready:
        gather(dict.fromkeys(p for trial in trials.values() for p in trial.refusal))
    name, mark = _identity(list(trials.values()))
    return Plan(name, mark, tuple(trials.values()), len(combinations) - len(trials))


def check_names(combinations: Sequence[Combination]) -> None:
    """Options of methods and tasks, before any data is read.

    Raises:
        ConfigError: with all that is wrong with them.
    """
    problems: list[Problem] = []
    for combination in combinations:
        try:
            resolve_names(combination.loaded)
        except ConfigError as error:
            problems += told(error.problems, combination.axes)
    gather(dict.fromkeys(problems), ConfigError)


def _prepared(
    combination: Combination, output: Path, offline: bool, memo: Memo, number: int
) -> Trial:
    try:
        resolved_run = prepare(combination.loaded, output, offline=offline, memo=memo)
    except InputError as error:
        config, refused = combination.loaded.config, {"refused": "true"}
        mark = fingerprint(config.model_dump(), refused)
        record = _entry(combination, config, refused, mark)
        record = replace(record, refused=True)
        return Trial(
            number, record, combination, None, tuple(told(error.problems, combination.axes))
        )
    remember(resolved_run, memo)
    config = resolved_run.resolved.config
    record = _entry(combination, config, resolved_run.identities, resolved_run.fingerprint)
    return Trial(number, record, combination, resolved_run)


def _entry(
    combination: Combination, config: RunConfig, identities: Mapping[str, str], mark: str
) -> TrialRecord:
    content = config.model_dump()
    return TrialRecord(
        fingerprint=mark,
        setting=fingerprint(content, identities, {SEED}),
        config=combination.name,
        values=_values(combination, content),
        seed=int(config.train.seed),
        task=config.task.name,
        split=config.selection.split,
        metric=config.selection.metric,
        mode=config.selection.mode,
    )


def _values(combination: Combination, decided: Mapping[str, Any]) -> dict[str, Any]:
    """The swept values but for the seed; what the config resolves (prompt_len, null) as resolved.

    A mapping that is only a name is that name.
    """
    values: dict[str, Any] = {}
    for axis, value in zip(combination.axes, combination.values, strict=True):
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
        path = trial.combination.loaded.path
        if path not in first or (
            first[path].resolved_run is None and trial.resolved_run is not None
        ):
            first[path] = trial
    names = list(dict.fromkeys(trial.combination.name for trial in first.values()))
    name = names[0] if len(names) == 1 else f"{names[0]}+{len(names) - 1}"
    marks = sorted(_base(trial) for trial in first.values())
    return name, marks[0] if len(marks) == 1 else fingerprint({"configs": marks}, {})


def _base(trial: Trial) -> str:
    """Fingerprint of one config without the swept keys, and of which keys those are."""
    axes = trial.combination.axes
    shared = trial.combination.loaded.config.model_dump()
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
