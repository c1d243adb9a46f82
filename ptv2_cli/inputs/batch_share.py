"""The rows of a batch that one of several processes computes."""

from __future__ import annotations

from dataclasses import fields, replace

from torch import Tensor

from ptv2_cli.inputs.batch import Batch
from ptv2_cli.kinds import IGNORE, Kind, kind_spec
from ptv2_cli.rng import RowShare


def share_of(batch: Batch, kind: Kind, rank: int, size: int) -> tuple[Batch, RowShare]:
    """The rows of a rank: about B / size of them, one after another, as wide as the whole batch.

    A question stays with its choices. A rank that is left without rows gets the first one with no
    targets, which adds nothing to loss and gradients: every rank then computes equally many passes.

    Args:
        batch: the whole batch, with its features.
        kind: the kind of the features.
        rank: from 0.
        size: the number of ranks.

    Returns:
        The rank's batch, and which inputs of the whole it has.
    """
    assert batch.features is not None
    first, last = (batch.rows * number // size for number in (rank, rank + 1))
    empty = first == last
    if empty:
        first, last = 0, 1
    sizes = [len(feature.inputs) for feature in batch.features]
    start, end = sum(sizes[:first]), sum(sizes[:last])
    # Labels and choices have a row for each feature, everything else one for each input.
    cut = {
        item.name: value[first:last] if item.name in _OF_FEATURES else value[start:end]
        for item in fields(batch)
        if isinstance(value := getattr(batch, item.name), Tensor)
    }
    if batch.choices is not None:
        choices = cut["choices"]
        cut["choices"] = choices.sub(start).masked_fill(choices < 0, -1)
    part = replace(batch, **cut, features=batch.features[first:last])  # type: ignore[arg-type]
    targets = 0.0 if empty else _targets(part, kind)
    return replace(part, targets=targets), RowShare(start, end - start, sum(sizes))


_OF_FEATURES = {"labels", "weights", "choices"}


def _targets(batch: Batch, kind: Kind) -> float:
    """What the mean loss of the rows divides by, see `Batch.targets`."""
    if batch.labels is None or batch.features is None:
        return 0.0
    if batch.weights is not None:
        return float(batch.weights.sum())
    spec = kind_spec(kind)
    if spec.answer == "tags" or spec.writes:
        return int((batch.labels != IGNORE).sum())
    return sum(feature.label is not None for feature in batch.features)
