"""Batches of several owners as one: padded to the longest, one after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ptv2_cli.tasks.collate import Batch


def joined(batches: Sequence[Batch], pad_id: int) -> Batch:
    """The inputs of all batches [sum of B, the longest T]; labels stay with their own batches.

    Raises:
        ValueError: some inputs hold prompt slots, others none.
    """
    if len(batches) == 1:
        return batches[0]
    width = max(batch.input_ids.shape[1] for batch in batches)
    types = [batch.token_type_ids for batch in batches]
    if any(batch.slots is not None for batch in batches):
        raise ValueError("inputs with prompt slots cannot share a batch with others")
    return Batch(
        input_ids=_stacked([batch.input_ids for batch in batches], width, pad_id),
        attention_mask=_stacked([batch.attention_mask for batch in batches], width, 0),
        targets=sum(batch.targets for batch in batches),
        token_type_ids=None
        if None in types
        else _stacked([part for part in types if part is not None], width, 0),
    )


def _stacked(parts: Sequence[Tensor], width: int, fill: int) -> Tensor:
    """[B, T] each -> [sum of B, width]."""
    pad = torch.nn.functional.pad
    return torch.cat([pad(part, (0, width - part.shape[1]), value=fill) for part in parts])
