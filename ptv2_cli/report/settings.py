"""Which config keys tell the rows of a report apart: few, and only where they are needed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from ptv2_cli.report.runs import Run, plain

FIRST = ("train.lr", "method.reparam", "method.layers", "method.init", "head.pooling")
"""Keys that say most, where several would tell two runs apart."""
METHOD_CHOICES = (
    *("method.", "head.", "train.lr", "train.weight_decay", "train.warmup"),
    "checkpoint",
)
"""Keys of which every method has its own default, or that tell an imported run: not unfair."""


def separating(cells: Iterable[Sequence[Run]]) -> tuple[str, ...]:
    """The least keys, in order, by which runs of one cell differ in more than their seed.

    A cell holds the runs of one row and column; without these keys the mean of the cell would
    mix settings. A key is taken if it splits a group that the keys before it left whole.
    """
    groups = [list(cell) for cell in cells]
    chosen: list[str] = []
    for key in _ordered(_differing(groups)):
        parts = [part for group in groups for part in _by_value(group, key)]
        if len(parts) > len(groups):
            chosen.append(key)
            groups = parts
    return tuple(chosen)


def values_of(run: Run, keys: Sequence[str]) -> tuple[str, ...]:
    """The run's values of `keys`, as text."""
    return tuple(plain(run.settings.get(key)) for key in keys)


def label(keys: Sequence[str], values: Sequence[str]) -> str:
    """`lr 0.01, limit.train 300`: keys without their section, unless two would read the same."""
    short = [key.partition(".")[2] or key for key in keys]
    names = [key if short.count(own) > 1 else own for own, key in zip(short, keys, strict=True)]
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def unequal(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Keys in which runs that are compared differ although they belong to no method's choice.

    More epochs, other data or other precision make rows unequal: a reader has to know.
    """
    found: dict[str, list[str]] = {}
    for key in _ordered(_differing([runs])):
        if not key.startswith(METHOD_CHOICES):
            found[key] = sorted({plain(run.settings.get(key)) for run in runs})
    return found


def _differing(groups: Iterable[Sequence[Run]]) -> set[str]:
    keys: set[str] = set()
    for group in groups:
        for key in {key for run in group for key in run.settings}:
            if len({_hashable(run.settings.get(key)) for run in group}) > 1:
                keys.add(key)
    return keys


def _ordered(keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=lambda key: (FIRST.index(key) if key in FIRST else len(FIRST), key))


def _by_value(group: Sequence[Run], key: str) -> list[list[Run]]:
    parts: dict[Hashable, list[Run]] = {}
    for run in group:
        parts.setdefault(_hashable(run.settings.get(key)), []).append(run)
    return list(parts.values())


def _hashable(value: Any) -> Hashable:
    if isinstance(value, list | tuple):
        return tuple(_hashable(inner) for inner in value)
    return str(value) if isinstance(value, Mapping) else value
