"""Batches of several owners as one: padded to the longest, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain

import torch
from torch import Tensor

from ptv2_cli.tasks.base import Feature
from ptv2_cli.tasks.collate import Batch


def joined(batches: Sequence[Batch], pad_id: int, vectors: Sequence[int] | None = None) -> Batch:
    """The inputs of all batches [sum of B, the longest T]; labels stay with their own batches.

    Args:
        batches: at least one.
        pad_id: what fills input ids.
        vectors: how many prompt vectors each batch brings; slots count those of all batches, one
            batch's after another's.
    """
    if len(batches) == 1:
        return batches[0]
    width = max(batch.input_ids.shape[1] for batch in batches)
    types = [batch.token_type_ids for batch in batches]
    return Batch(
        input_ids=_stacked([batch.input_ids for batch in batches], width, pad_id),
        attention_mask=_stacked([batch.attention_mask for batch in batches], width, 0),
        targets=sum(batch.targets for batch in batches),
        token_type_ids=None
        if None in types
        else _stacked([part for part in types if part is not None], width, 0),
        slots=_slots(batches, width, vectors or [0] * len(batches)),
        features=_features(batches),
    )


def laid_out(batch: Batch, column: int, length: int, pad_id: int) -> Batch:
    """The inputs [B, P + T] with slots for P = `length` prompt vectors before a token column."""

    def wider(tensor: Tensor, fill: int) -> Tensor:
        between = tensor.new_full((tensor.shape[0], length), fill)
        return torch.cat([tensor[:, :column], between, tensor[:, column:]], dim=1)

    types = batch.token_type_ids
    slots = wider(torch.full_like(batch.input_ids, -1), 0)
    slots[:, column : column + length] = torch.arange(length, device=slots.device)
    return replace(
        batch,
        input_ids=wider(batch.input_ids, pad_id),
        attention_mask=wider(batch.attention_mask, 1),
        token_type_ids=None if types is None else wider(types, 0),
        slots=slots,
    )


def _features(batches: Sequence[Batch]) -> tuple[Feature, ...] | None:
    """Features of all batches, or None where one does not know its own."""
    known = [batch.features for batch in batches if batch.features is not None]
    if len(known) < len(batches):
        return None
    return tuple(chain.from_iterable(known))


def _slots(batches: Sequence[Batch], width: int, vectors: Sequence[int]) -> Tensor | None:
    """Slots of all batches, or None where no batch has any."""
    if all(batch.slots is None for batch in batches):
        return None
    parts = []
    for batch, before in zip(batches, accumulate(vectors, initial=0), strict=False):
        own = torch.full_like(batch.input_ids, -1) if batch.slots is None else batch.slots
        parts.append(torch.where(own >= 0, own + before, own))
    return _stacked(parts, width, -1)


def _stacked(parts: Sequence[Tensor], width: int, fill: int) -> Tensor:
    """[B, T] each -> [sum of B, width]."""
    pad = torch.nn.functional.pad
    return torch.cat([pad(part, (0, width - part.shape[1]), value=fill) for part in parts])
