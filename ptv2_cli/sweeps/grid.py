"""Every combination of a sweep's lists, read and checked as a config."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ptv2_cli.config.load import ConfigSource, LoadedConfig, Override, load_config
from ptv2_cli.config.overrides import FLAGS
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import ConfigError, Problem, gather
from ptv2_cli.sweeps.axes import SEED, Axis, Variants, from_section, in_section, joined
from ptv2_cli.sweeps.search_options import require_no_ranges

_WITHOUT_SWEEP = Override(("sweep",), None, "--unset sweep", unset=True)


@dataclass(frozen=True)
class Combination:
    """One combination of values, as a config; a trial is made from it."""

    loaded: LoadedConfig
    axes: tuple[Axis, ...]
    values: tuple[Any, ...]
    """The value of each axis."""

    @property
    def name(self) -> str:
        """The config's name."""
        return self.loaded.config.name or self.loaded.path.stem


def make_combinations(
    configs: Sequence[ConfigSource], base: Sequence[Override], flags: Sequence[Axis]
) -> list[Combination]:
    """All combinations of all configs, the seed changing fastest.

    Args:
        configs: files, or configs themselves; each may have its own `sweep:`.
        base: the overrides of all trials.
        flags: the axes of the command line, which replace those of the section.

    Raises:
        ConfigError: a config or a list is wrong, a value has the wrong type, or there is nothing
            to sweep; with every problem.
    """
    read = [load_config(path, base) for path in configs]
    grids = [joined(from_section(loaded), flags) for loaded in read]
    if len(configs) == 1 and not grids[0]:
        raise _nothing(read[0].path, base)
    for axes in grids:
        require_no_ranges(axes)
    combinations: list[Combination] = []
    problems: list[Problem] = []
    for path, axes in zip(configs, grids, strict=True):
        for values in itertools.product(*(axis.values for axis in axes)):
            try:
                combinations.append(combination_of(path, base, axes, values))
            except ConfigError as error:
                problems += error.problems
    gather(dict.fromkeys(problems), ConfigError)
    return combinations


def combination_of(
    config: ConfigSource, base: Sequence[Override], axes: Sequence[Axis], values: Sequence[Any]
) -> Combination:
    """One combination of values, read as a config.

    Raises:
        ConfigError: with all that is wrong with it, in terms of the sweep's flags and lists.
    """
    fixed = [
        override
        for axis, value in zip(axes, values, strict=True)
        for override in axis.overrides(value)
    ]
    try:
        loaded = load_config(config, [*base, _WITHOUT_SWEEP, *fixed])
    except ConfigError as error:
        raise ConfigError(*told(error.problems, axes)) from None
    return Combination(loaded, tuple(axes), tuple(values))


def told(problems: Iterable[Problem], axes: Sequence[Axis]) -> list[Problem]:
    """The problems of one combination, in terms of the sweep's flags and lists."""
    return [
        next((_told(problem, axis) for axis in axes if axis.gave(problem.where)), problem)
        for problem in problems
    ]


def _told(problem: Problem, axis: Axis) -> Problem:
    """A problem of the one value, with a hint that proposes other values for the axis."""
    fix, hint = problem.fix, problem.hint
    if isinstance(axis, Variants):
        return _in_variant(problem, axis)
    if fix is not None and fix.value is None:
        change = f"give it other values, or leave {fix.key} out for its default"
        hint = f"{fix.before}{change}{fix.after}"
    elif fix is not None and (fix.renames or fix.key == axis.key):
        text = axis.text if fix.renames else fix.value or ""
        hint = f"{fix.before}{_listed(axis, fix.key, text)}{fix.after}"
    return Problem(axis.where, problem.what, hint)


def _in_variant(problem: Problem, axis: Variants) -> Problem:
    """A problem of a variant, with a hint that is written as the variant is."""
    fix = problem.fix
    if fix is None:
        return problem
    path = tuple(fix.key.split("."))
    if not fix.renames and not any(path[: len(own)] == own for own in axis.paths):
        return problem
    change = f"write {fix.key}: {fix.value}"
    if fix.value is None:
        change = f"leave {fix.key} out of the variant for its default"
    return replace(problem, hint=f"{fix.before}{change}{fix.after}")


def _listed(axis: Axis, key: str, text: str) -> str:
    """How to give `key` the values `text`, or those of the axis, where the axis was given."""
    if axis.scale is not None:
        ends = ", ".join(str(getattr(end, "source", end)) for end in axis.values)
        values = f"{{{axis.scale}: [{ends}]}}"
        if axis.in_file:
            return f"write sweep: {{space: {{{key}: {values}}}}}"
        return f"type --space {shlex.quote(f'{key}={values}')}"
    if axis.in_file:
        return f"write {in_section(key, [text] if text else axis.values)}"
    flag = f"{FLAGS[key]} {text}" if key in FLAGS else f"--grid {shlex.quote(f'{key}={text}')}"
    return f"type {flag}"


def _nothing(config: Path, base: Sequence[Override]) -> ConfigError:
    command = shlex.join(["ptv2", "sweep", str(config)])
    seeds = not any(override.path == tuple(SEED.split(".")) for override in base)
    example = "--prompt-len 20,100" + (" --seed 11,12,13" if seeds else "")
    return ConfigError.at(
        str(config),
        "nothing to sweep: neither the command nor the config lists any values",
        f"type {command} {example}, or --grid KEY=A,B for any other key; "
        f"ptv2 train {shlex.quote(str(config))} is one run",
    )


def in_range(combination: Combination, key: str, value: Any) -> bool:
    """Whether the schema allows `value` at `key` in the combination's config."""
    data: Any = combination.loaded.config.model_dump()
    holder = data
    *sections, last = key.split(".")
    for section in sections:
        holder = holder.get(section) if isinstance(holder, dict) else None
    if not isinstance(holder, dict):
        return False
    holder[last] = value
    try:
        RunConfig.model_validate(data)
    except ValidationError:
        return False
    return True
