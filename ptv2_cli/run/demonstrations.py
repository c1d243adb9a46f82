"""Which train rows stand before every text as examples: drawn once, by the run's seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ptv2_cli.errors import DataError
from ptv2_cli.run.recipe import Recipe
from ptv2_cli.seeding import generator
from ptv2_cli.tasks.base import Row


def draw(recipe: Recipe, rows: Sequence[Row]) -> list[Row]:
    """`task.demonstrations` rows of train in random order, as many of each label as can be.

    They hold their text columns and their label alone.

    Raises:
        DataError: train has fewer rows.
    """
    count, task = recipe.config.task.demonstrations, recipe.task
    if count is None:
        return []
    if count > len(rows):
        what = f"{count} demonstrations of {len(rows)} train rows"
        raise DataError.at("task.demonstrations", what, f"use at most {len(rows)}")
    draws = generator(recipe.config.train.seed, "demonstrations")
    by_label: dict[str, list[Row]] = {label: [] for label in task.labels}
    for at in torch.randperm(len(rows), generator=draws).tolist():
        by_label[rows[at]["label"]].append(rows[at])
    labels = [task.labels[at] for at in torch.randperm(len(task.labels), generator=draws).tolist()]
    picked: list[Row] = []
    while len(picked) < count:
        for label in labels:
            if by_label[label] and len(picked) < count:
                picked.append(by_label[label].pop())
    order = torch.randperm(count, generator=draws).tolist()
    kept = (*task.columns, "label")
    return [{name: picked[at][name] for name in kept} for at in order]
