"""A sweep's trials checked as `ptv2 check` checks one run: without weights, writing nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.errors import InputError, Problem, gather
from ptv2_cli.runs.data import Memo, read_data
from ptv2_cli.runs.resolve.offline_rules import require_offline
from ptv2_cli.runs.resolve.resolved_config import resolve_config
from ptv2_cli.sweeps.grid import Combination, told
from ptv2_cli.sweeps.leaderboard import short, show
from ptv2_cli.sweeps.trials import check_names


@dataclass(frozen=True)
class DryRun:
    """What the trials of one config would be."""

    able: tuple[Combination, ...]
    """The trials that can run, equal ones once."""
    merged: int
    """How many combinations were the same run as another one."""
    refused: tuple[tuple[str, tuple[Problem, ...]], ...]
    """The others: values, and why not."""
    lists: str
    """What is swept: `prompt_len 2, 4; seed 11, 12`."""


def rehearse(combinations: Sequence[Combination], *, offline: bool) -> DryRun:
    """Decide every combination and read its data.

    Raises:
        ConfigError: an unknown option or a value of the wrong type, in whichever combination.
        InputError: not one of the combinations can run; with all reasons.
    """
    check_names(combinations)
    memo = Memo()
    able: dict[str, Combination] = {}
    refused: list[tuple[str, tuple[Problem, ...]]] = []
    for combination in combinations:
        try:
            mark = _mark(combination, offline, memo)
        except InputError as error:
            refused.append((_values(combination), tuple(told(error.problems, combination.axes))))
        else:
            able.setdefault(mark, combination)
    if not able:
        gather(dict.fromkeys(problem for _, problems in refused for problem in problems))
    merged = len(combinations) - len(able) - len(refused)
    return DryRun(tuple(able.values()), merged, tuple(refused), _lists(combinations[0]))


def _mark(combination: Combination, offline: bool, memo: Memo) -> str:
    """Equal for combinations that are the same run: the same config, decided, and the same data."""
    require_offline(combination.loaded, offline=offline)
    resolved = resolve_config(combination.loaded, offline=offline)
    resolved, data = read_data(resolved, offline=offline, memo=memo)
    content = resolved.config.model_dump()
    # Without weights a backbone is known by its name, which a fingerprint leaves out.
    return fingerprint(content, {**data.identities, "backbone": content["backbone"]["name"]})


def _values(combination: Combination) -> str:
    pairs = zip(combination.axes, combination.values, strict=True)
    return ", ".join(f"{short(axis.key)} {_shown(value)}" for axis, value in pairs)


def _lists(combination: Combination) -> str:
    lists = [
        f"{short(axis.key)} {', '.join(map(_shown, axis.values))}" for axis in combination.axes
    ]
    return "; ".join(lists)


def _shown(value: Any) -> str:
    """A value on one line; a section that is only a name is that name."""
    return str(value["name"]) if isinstance(value, dict) and set(value) == {"name"} else show(value)
