"""A part of train that is held out: rows of equal text on one side, labels with their shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import torch

from ptv2_cli.errors import DataError
from ptv2_cli.run.overlap import marks_of, related
from ptv2_cli.run.sample import shares
from ptv2_cli.seeding import generator
from ptv2_cli.tasks.base import Row, Split, Task
from ptv2_cli.tasks.multi import TASK

DRAWN = 2
"""How rows are drawn: raised when a change of the code draws others. 1 held out single rows."""


def hold_out(task: Task, train: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split train in two, by the seed; labels keep their shares as well as the groups allow.

    Rows with all their text equal stay together, those of one origin (Task.origin) too, and those
    that share a long text of one column. If such texts tie so many rows together that not half of
    `fraction` could be held out, long texts do not count.

    Raises:
        DataError: train is too small to give a row of it away.
    """
    rows = train.rows
    strata = [_stratum(task, row) for row in rows]
    wanted = shares(Counter(strata), round(fraction * len(rows)), least=0)
    marks = marks_of(task, rows)
    held: set[int] = set()
    for long in (True, False):
        groups = related(marks, long=long)
        order = torch.randperm(len(groups), generator=generator(seed, "holdout")).tolist()
        held = _drawn([groups[place] for place in order], strata, wanted)
        if 2 * len(held) >= sum(wanted.values()):
            break
    if not held:
        raise DataError.at(
            "selection.fraction",
            f"{fraction} of {len(rows)} train rows leaves one side empty",
            "give a validation file, or another fraction",
        )
    kept = [row for index, row in enumerate(rows) if index not in held]
    taken = [rows[index] for index in sorted(held)]
    return replace(train, rows=kept), replace(train, rows=taken, notes=())


def _stratum(task: Task, row: Row) -> Hashable:
    """What has the same share on both sides: the row's label, if it has one alone."""
    gold = task.gold(row) if task.classed else None
    return (row[TASK], gold) if task.parts else gold


def _drawn(
    groups: Sequence[Sequence[int]],
    strata: Sequence[Hashable],
    wanted: Mapping[Hashable, int],
) -> set[int]:
    """Indices of rows to hold out: whole groups, the first that fit, in the order given.

    No stratum gives all its rows away.
    """
    sizes, taken = Counter(strata), Counter[Hashable]()
    left = [(group, Counter(strata[index] for index in group)) for group in groups]
    held: set[int] = set()

    def room(own: Mapping[Hashable, int]) -> bool:
        return all(taken[name] + count < sizes[name] for name, count in own.items())

    def fits(own: Mapping[Hashable, int]) -> bool:
        return all(taken[name] + count <= wanted[name] for name, count in own.items())

    def helps(own: Mapping[Hashable, int]) -> bool:
        """Whether it brings the counts nearer to those wanted, though some overshoot."""
        missing = {name: wanted[name] - taken[name] for name in own}
        return sum(abs(missing[name] - own[name]) - abs(missing[name]) for name in own) < 0

    for suits in (fits, helps):
        passed = []
        for group, own in left:
            if room(own) and suits(own):
                held.update(group)
                taken.update(own)
            else:
                passed.append((group, own))
        left = passed
    able = [group for group, own in left if room(own)]
    if able and not held and any(wanted.values()):
        smallest = min(able, key=len)
        held.update(smallest)
    return held
