"""`task.limit`: the first rows of a split, rows drawn at random, or with every label's share."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from ptv2_cli.config.schema import LimitSection
from ptv2_cli.seeding import derive
from ptv2_cli.tasks.base import DataSource, Row, Split, Task

Unit = list[int]
"""Indices of rows that are taken together: mostly one."""


def read_limited(
    task: Task, source: DataSource, split: str, limit: LimitSection, seed: int
) -> Split:
    """Read a split, or as much of it as `limit` says; `seed` counts unless `limit` has its own.

    Of several tasks each gives as many. Rows keep the order of the file.

    Raises:
        DataError: see Task.read; what is not taken is checked too, unless the first are taken.
    """
    count = getattr(limit, split, None)
    if count is None or limit.sample == "first":
        return task.read(source, split, count)
    found = task.read(source, split)
    seed = seed if limit.seed is None else limit.seed
    kept: list[int] = []
    for pool in _pools(task, found.rows):
        draws = {unit[0]: _draw(found.rows, unit, seed, split) for unit in pool}
        strata = _strata(task, found.rows, pool) if limit.sample == "stratified" else {None: pool}
        wanted = shares({label: len(units) for label, units in strata.items()}, count)
        for label, units in strata.items():
            ranked = sorted(units, key=lambda unit: draws[unit[0]])
            kept += [index for unit in ranked[: wanted[label]] for index in unit]
    return replace(found, rows=[found.rows[index] for index in sorted(kept)])


def shares(sizes: Mapping[Hashable, int], count: int, least: int = 1) -> dict[Hashable, int]:
    """How many of `count` fall to each stratum: its share, rounded so that the sum is right.

    While there are as many as strata, each gets `least` (0 or 1) at least.
    """
    total = sum(sizes.values())
    if count >= total:
        return dict(sizes)
    exact = {name: count * size / total for name, size in sizes.items()}
    least = least if count >= len(sizes) else 0
    found = {name: max(int(share), least) for name, share in exact.items()}
    while sum(found.values()) < count:
        found[max(found, key=lambda name: exact[name] - found[name])] += 1
    while sum(found.values()) > count:
        spare = [name for name in found if found[name] > least]
        found[max(spare, key=lambda name: found[name] - exact[name])] -= 1
    return found


def _pools(task: Task, rows: Sequence[Row]) -> list[list[Unit]]:
    """The units of each task, in the order of the file."""
    pools: dict[Hashable, dict[Hashable, Unit]] = {}
    for index, row in enumerate(rows):
        unit = task.unit(row)
        key = ("row", index) if unit is None else ("unit", unit)
        pools.setdefault(row["task"] if task.parts else None, {}).setdefault(key, []).append(index)
    return [list(units.values()) for units in pools.values()]


def _strata(task: Task, rows: Sequence[Row], units: Sequence[Unit]) -> dict[Hashable, list[Unit]]:
    strata: dict[Hashable, list[Unit]] = {}
    for unit in units:
        strata.setdefault(task.gold(rows[unit[0]]), []).append(unit)
    return strata


def _draw(rows: Sequence[Row], unit: Unit, seed: int, split: str) -> int:
    """A number drawn for what the rows hold: no order of the file changes which are taken."""
    content = json.dumps([rows[index] for index in unit], sort_keys=True, default=str)
    return derive(seed, f"limit/{split}/{content}")
