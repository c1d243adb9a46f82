"""The settings of a search space: its corners, any one drawn at random, or all of them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any, TypeVar

from ptv2_cli.config.load import ConfigSource
from ptv2_cli.config.overrides import Override
from ptv2_cli.errors import ConfigError, Problem, gather
from ptv2_cli.sweeps.axes import SEED, Axis
from ptv2_cli.sweeps.grid import Combination, combination_of
from ptv2_cli.sweeps.ranges import drawn, whole

CORNERS = 64
"""Most combinations of ends and choices that are all checked."""
_T = TypeVar("_T")


def corners_of(
    config: ConfigSource, base: Sequence[Override], space: Sequence[Axis], seeds: Sequence[Axis]
) -> list[Combination]:
    """Combinations of all ends and choices; of very many each end, with the others' first ones.

    Args:
        config: of all settings.
        base: the overrides of all settings.
        space: the keys that are searched.
        seeds: the key of the seed, if it has a list; its first value is taken.

    Raises:
        ConfigError: a key is unknown or a value is refused; with all of them.
    """
    problems: list[Problem] = []
    combinations = []
    first_seed = [axis.values[0] for axis in seeds]
    for values in _corners([axis.values for axis in space]):
        try:
            axes = [*space, *seeds]
            combinations.append(combination_of(config, base, axes, [*values, *first_seed]))
        except ConfigError as error:
            problems += error.problems
    gather(dict.fromkeys(problems), ConfigError)
    return combinations


def without_seed(axes: Sequence[Axis]) -> tuple[list[Axis], list[Axis]]:
    """The axes of a space, and that of the seed, if there is one."""
    return [a for a in axes if a.key != SEED], [a for a in axes if a.key == SEED]


def drawn_value(axis: Axis, draw: random.Random) -> Any:
    """A value of a key, as likely as a search without knowledge would try it."""
    if axis.scale is None:
        return draw.choice(axis.values)
    low, high = axis.values
    if axis.scale == "log":
        value = math.exp(draw.uniform(math.log(low), math.log(high)))
    else:
        value = draw.uniform(low, high)
    return drawn(round(value) if is_whole(axis) else value, (low, high))


def is_whole(axis: Axis) -> bool:
    """Whether the key has a range of whole numbers."""
    return axis.scale is not None and whole(axis.scale, (axis.values[0], axis.values[1]))


def is_finite(space: Sequence[Axis]) -> bool:
    """Whether the space has a countable number of settings."""
    return all(axis.scale is None or is_whole(axis) for axis in space)


def every_value(axis: Axis) -> Sequence[Any]:
    """All values of a key that has choices or whole numbers."""
    return range(axis.values[0], axis.values[1] + 1) if axis.scale else axis.values


def spread(items: Sequence[_T], count: int) -> list[_T]:
    """Up to `count` of the items, evenly apart, with the first and the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _corners(lists: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    if math.prod(map(len, lists)) <= CORNERS:
        return list(itertools.product(*lists))
    first = tuple(values[0] for values in lists)
    last = tuple(values[-1] for values in lists)
    changed = (
        (*first[:i], value, *first[i + 1 :]) for i, values in enumerate(lists) for value in values
    )
    return [first, *changed, last]
