"""Which rows of a split are used: `task.limit`, the holdout and the demonstrations."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ptv2_cli.config.schema import LimitSection
from ptv2_cli.data.row_store import RowStore
from ptv2_cli.data.rows import DataSource, Row, Split
from ptv2_cli.errors import DataError
from ptv2_cli.rng import derive, generator
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.rows.duplicate_text import Groups, group_by_text
from ptv2_cli.runs.rows.text_hashes import Indices, Mask, text_hashes
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.multi import task_of_row

Unit = list[int]
"""Indices of rows that are taken together; mostly one row."""
AT_ONCE = 4096
"""Numbers that are Python objects at the same time."""


def read_limited(
    task: Task, source: DataSource, split: str, limit: LimitSection, seed: int
) -> Split:
    """Read a split, or as much of it as `limit` says; `limit` may have a seed of its own.

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
    return replace(found, rows=RowStore.of(found.rows).take(np.array(sorted(kept), np.int64)))


def shares(sizes: Mapping[Hashable, int], count: int, least: int = 1) -> dict[Hashable, int]:
    """How many of `count` rows each stratum gets: its share, rounded so that the sum is right.

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
        pools.setdefault(task_of_row(row) if task.parts else None, {}).setdefault(key, []).append(
            index
        )
    return [list(units.values()) for units in pools.values()]


def _strata(task: Task, rows: Sequence[Row], units: Sequence[Unit]) -> dict[Hashable, list[Unit]]:
    strata: dict[Hashable, list[Unit]] = {}
    for unit in units:
        strata.setdefault(task.gold(rows[unit[0]]), []).append(unit)
    return strata


def _draw(rows: Sequence[Row], unit: Unit, seed: int, split: str) -> int:
    """A random number for the content of the rows: their order in the file makes no difference."""
    content = json.dumps([rows[index] for index in unit], sort_keys=True, default=str)
    return derive(seed, f"limit/{split}/{content}")


DRAWN = 2
"""Version of the way rows are drawn, recorded by runs with a holdout. 1 held out single rows."""


def hold_out(task: Task, train: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split train in two, by the seed; labels keep their shares as well as the groups allow.

    Rows with all their text equal stay together, those of one origin (Task.origin) too, and those
    that share a long text of one column. If such texts tie so many rows together that not half of
    `fraction` could be held out, long texts do not count.

    Raises:
        DataError: train is too small to give a row of it away.
    """
    rows = RowStore.of(train.rows)
    numbers: dict[Hashable, int] = {}
    of_row = (numbers.setdefault(_stratum(task, row), len(numbers)) for row in rows)
    strata = np.fromiter(of_row, np.int64, len(rows))
    sizes = np.bincount(strata).tolist()
    wanted = shares(dict(enumerate(sizes)), round(fraction * len(rows)), least=0)
    hashes = text_hashes(task, rows)
    held = np.zeros(len(rows), bool)
    for long in (True, False):
        groups = group_by_text(hashes, long=long)
        order = torch.randperm(len(groups), generator=generator(seed, "holdout")).numpy()
        held = _drawn(groups, order, strata, [wanted[number] for number in range(len(sizes))])
        if 2 * held.sum() >= sum(wanted.values()):
            break
    if not held.any():
        raise DataError.at(
            "selection.fraction",
            f"{fraction} of {len(rows)} train rows leaves one side empty",
            "give a validation file, or another fraction",
        )
    kept, given = rows.take(~held), rows.take(held)
    return replace(train, rows=kept), replace(train, rows=given, notes=())


def _stratum(task: Task, row: Row) -> Hashable:
    """What has the same share on both sides: the row's label, if it has a single one."""
    gold = task.gold(row) if task.classed else None
    return (task_of_row(row), gold) if task.parts else gold


def _drawn(groups: Groups, order: Indices, strata: Indices, wanted: Sequence[int]) -> Mask:
    """Which rows [n] to hold out: whole groups, the first that fit, in the order given.

    No stratum gives all its rows away.

    Args:
        groups: of n rows.
        order: numbers of all groups.
        strata: [n], the stratum of each row.
        wanted: rows to hold out of each stratum.
    """
    sizes, taken = np.bincount(strata).tolist(), [0] * len(wanted)
    held = np.zeros(len(strata), bool)

    def room(own: Mapping[int, int]) -> bool:
        return all(taken[name] + count < sizes[name] for name, count in own.items())

    def fits(own: Mapping[int, int]) -> bool:
        return all(taken[name] + count <= wanted[name] for name, count in own.items())

    def helps(own: Mapping[int, int]) -> bool:
        """Whether it brings the counts nearer to those wanted, though some overshoot."""
        missing = {name: wanted[name] - taken[name] for name in own}
        return sum(abs(missing[name] - own[name]) - abs(missing[name]) for name in own) < 0

    def by_stratum(group: int) -> Mapping[int, int]:
        return Counter(strata[groups[group]].tolist())

    left = order
    for suits in (fits, helps):
        passed = array("q")
        for group in _each(left):
            if taken == wanted:  # none suits any more
                return held
            own = by_stratum(group)
            if room(own) and suits(own):
                held[groups[group]] = True
                for name, count in own.items():
                    taken[name] += count
            else:
                passed.append(group)
        left = np.array(passed, np.int64)
    if not held.any() and any(wanted):
        able = [group for group in _each(left) if room(by_stratum(group))]
        if able:
            held[groups[min(able, key=lambda group: len(groups[group]))]] = True
    return held


def _each(numbers: Indices) -> Iterator[int]:
    """Numbers as Python has them, a few at a time."""
    for first in range(0, len(numbers), AT_ONCE):
        yield from numbers[first : first + AT_ONCE].tolist()


def draw(resolved: ResolvedConfig, rows: Sequence[Row]) -> list[Row]:
    """`task.demonstrations` rows of train in random order, of each label equally many if possible.

    They hold their text columns and their gold answer alone.

    Raises:
        DataError: train has fewer rows.
    """
    count, task = resolved.config.task.demonstrations, resolved.task
    if count is None:
        return []
    if count > len(rows):
        what = f"{count} demonstrations of {len(rows)} train rows"
        raise DataError.at("task.demonstrations", what, f"use at most {len(rows)}")
    draws = generator(resolved.config.train.seed, "demonstrations")
    by_label: dict[str, list[Row]] = {label: [] for label in task.labels}
    for at in torch.randperm(len(rows), generator=draws).tolist():
        by_label[task.gold(rows[at])].append(rows[at])
    labels = [task.labels[at] for at in torch.randperm(len(task.labels), generator=draws).tolist()]
    picked: list[Row] = []
    while len(picked) < count:
        for label in labels:
            if by_label[label] and len(picked) < count:
                picked.append(by_label[label].pop())
    order = torch.randperm(count, generator=draws).tolist()
    kept = (*task.columns, task.gold_key)
    return [{name: picked[at][name] for name in kept} for at in order]
