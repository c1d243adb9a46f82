"""From combinations to trials: each a run with its fingerprint, equal runs merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.config.merge import NAMED
from ptv2_cli.config.origins import dotted
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import ConfigError, InputError, Problem, gather
from ptv2_cli.runs.resolve.offline_rules import require_offline
from ptv2_cli.runs.resolve.resolved_config import resolve_config, resolve_names
from ptv2_cli.runs.resolved_run import ResolvedRun, prepare
from ptv2_cli.runs.results import plain
from ptv2_cli.runs.rows.data import Memo, read_data
from ptv2_cli.sweeps.axes import SEED
from ptv2_cli.sweeps.engine import TrialSpec, remember
from ptv2_cli.sweeps.grid import Combination, told
from ptv2_cli.sweeps.leaderboard import short, show
from ptv2_cli.sweeps.records import TrialRecord

DATA_SECTIONS = {"task", "selection", "report"}
"""Sections that decide which files are read."""


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
        """The trial as an engine gets it; only for a trial that can run."""
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
    """Of what all trials share: the configs without the swept keys."""
    trials: tuple[Trial, ...]
    merged: int
    """How many combinations were the same run as another one."""
    expected: int = 0
    """How many trials a search has at its end; 0: unknown, or no search."""
    searched: bool = False
    """Whether a search decides on the trials, one by one."""

    @property
    def count(self) -> int:
        """How many trials there are, or will be, as far as is known."""
        return max(self.expected, len(self.trials))


def plan_trials(
    combinations: Sequence[Combination], output: Path, *, offline: bool, memo: Memo | None = None
) -> Plan:
    """Resolve every combination, read the data once, name the directories; write nothing.

    The memo then holds the prepared runs, so that an engine in this process has them too.

    Raises:
        ConfigError: an unknown option or a value of the wrong type, in any combination.
        InputError: none of the combinations can run; with all reasons.
    """
    check_names(combinations)
    memo = memo or Memo()
    trials: dict[str, Trial] = {}
    for combination in combinations:
        trial = make_trial(combination, len(trials) + 1, output, offline, memo)
        trials.setdefault(trial.record.fingerprint, trial)
    if all(trial.resolved_run is None for trial in trials.values()):
        gather(dict.fromkeys(p for trial in trials.values() for p in trial.refusal))
    name, mark = identity(list(trials.values()))
    return Plan(name, mark, tuple(trials.values()), len(combinations) - len(trials))


def check_names(combinations: Sequence[Combination]) -> None:
    """Check the options of methods and tasks, before any data is read.

    Raises:
        ConfigError: with everything that is wrong with them.
    """
    problems: list[Problem] = []
    for combination in combinations:
        try:
            resolve_names(combination.loaded)
        except ConfigError as error:
            problems += told(error.problems, combination.axes)
    gather(dict.fromkeys(problems), ConfigError)


@dataclass(frozen=True)
class TrialCheck:
    """What `ptv2 check` says about the trials of one config."""

    able: tuple[Combination, ...]
    """The combinations that can run, equal ones once."""
    merged: int
    """How many combinations were the same run as another one."""
    refused: tuple[tuple[str, tuple[Problem, ...]], ...]
    """The values of those that cannot run, and the reasons."""
    lists: str
    """What is swept: `prompt_len 2, 4; seed 11, 12`."""


def check_trials(combinations: Sequence[Combination], *, offline: bool) -> TrialCheck:
    """Resolve every combination and read its data, without weights; write nothing.

    Raises:
        ConfigError: an unknown option or a value of the wrong type, in any combination.
        InputError: none of the combinations can run; with all reasons.
    """
    check_names(combinations)
    memo = Memo()
    able: dict[str, Combination] = {}
    refused: list[tuple[str, tuple[Problem, ...]]] = []
    for combination in combinations:
        axes = combination.axes
        try:
            mark = _mark_without_weights(combination, offline, memo)
        except InputError as error:
            pairs = zip(axes, combination.values, strict=True)
            values = ", ".join(f"{short(axis.key)} {_shown(value)}" for axis, value in pairs)
            refused.append((values, tuple(told(error.problems, axes))))
        else:
            able.setdefault(mark, combination)
    if not able:
        gather(dict.fromkeys(problem for _, problems in refused for problem in problems))
    merged = len(combinations) - len(able) - len(refused)
    lists = "; ".join(
        f"{short(axis.key)} {', '.join(map(_shown, axis.values))}" for axis in combinations[0].axes
    )
    return TrialCheck(tuple(able.values()), merged, tuple(refused), lists)


def _mark_without_weights(combination: Combination, offline: bool, memo: Memo) -> str:
    """Equal for combinations that are the same run: equal resolved config and data."""
    require_offline(combination.loaded, offline=offline)
    resolved = resolve_config(combination.loaded, offline=offline)
    resolved, data = read_data(resolved, offline=offline, memo=memo)
    content = resolved.config.model_dump()
    # A fingerprint leaves the backbone's name out; without weights the name has to do.
    return fingerprint(content, {**data.identities, "backbone": content["backbone"]["name"]})


def _shown(value: Any) -> str:
    """A value on one line; a section with a name alone as that name."""
    return str(value["name"]) if isinstance(value, dict) and set(value) == {"name"} else show(value)


def make_trial(
    combination: Combination, number: int, output: Path, offline: bool, memo: Memo
) -> Trial:
    """The trial of a combination, its data read; refused if it cannot run."""
    try:
        run = prepare(combination.loaded, output, offline=offline, memo=memo)
    except InputError as error:
        config, identities = combination.loaded.config, {"refused": "true"}
        mark = fingerprint(config.model_dump(), identities)
        record = _record(combination, config, identities, mark, refused=True)
        refusal = tuple(told(error.problems, combination.axes))
        return Trial(number, record, combination, None, refusal)
    remember(run, memo)
    record = _record(combination, run.resolved.config, run.identities, run.fingerprint)
    return Trial(number, record, combination, run)


def _record(
    combination: Combination,
    config: RunConfig,
    identities: Mapping[str, str],
    mark: str,
    *,
    refused: bool = False,
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
        refused=refused,
    )


def _values(combination: Combination, content: Mapping[str, Any]) -> dict[str, Any]:
    """The swept values without the seed, as the resolved config has them.

    A mapping with a name alone becomes that name.
    """
    values: dict[str, Any] = {}
    for axis, value in zip(combination.axes, combination.values, strict=True):
        if axis.key == SEED:
            continue
        if isinstance(value, dict) and set(value) == {"name"}:
            value = value["name"]
        if not isinstance(value, dict | list | str):
            value = _resolved(content, axis.path)
        values[axis.key] = plain(value)
    return values


def _resolved(data: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, Mapping) else None
    return data["name"] if isinstance(data, Mapping) and path[-1] in NAMED else data


def identity(trials: Sequence[Trial]) -> tuple[str, str]:
    """The sweep's name, and the fingerprint of what its trials share, config by config."""
    first: dict[Path, Trial] = {}
    # One that can run knows its data, so it comes before the refused ones of its config.
    for trial in sorted(trials, key=lambda trial: trial.resolved_run is None):
        first.setdefault(trial.combination.loaded.path, trial)
    names = list(dict.fromkeys(trial.combination.name for trial in trials))
    name = names[0] if len(names) == 1 else f"{names[0]}+{len(names) - 1}"
    marks = sorted(_base(trial) for trial in first.values())
    return name, marks[0] if len(marks) == 1 else fingerprint({"configs": marks}, {})


def _base(trial: Trial) -> str:
    """Fingerprint of one config without the swept keys, and of the names of those keys."""
    axes = trial.combination.axes
    shared = trial.combination.loaded.config.model_dump()
    paths = [path for axis in axes for path in axis.paths]
    for path in paths:
        holder: Any = shared
        for part in path[:-1]:
            holder = holder.get(part) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder.pop(path[-1], None)
    swept = {path[0] for path in paths}
    known = dict(trial.resolved_run.identities) if trial.resolved_run else {}
    if swept & DATA_SECTIONS:
        known = {key: value for key, value in known.items() if key == "backbone"}
    if "backbone" in swept:
        known.pop("backbone", None)
    return fingerprint({**shared, "swept keys": sorted(map(dotted, paths))}, known)
