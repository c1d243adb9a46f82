"""Features to tensors: pad a list of rows to the longest of them, never further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import IGNORE, Kind, kind_spec
from ptv2_cli.rng import RowDraws


@dataclass(frozen=True)
class Batch:
    """B inputs padded on the right to T tokens; int64 tensors, numbers as labels fp32.

    Inputs are the features, but for questions with choices: Q features of B inputs in all.
    """

    input_ids: Tensor
    """[B, T]"""
    attention_mask: Tensor
    """[B, T]: 1 for text, special tokens and prompt slots, 0 for padding."""
    targets: float
    """What the mean loss divides by: the labelled rows (tokens for the token kind), or the sum of
    their weights."""
    token_type_ids: Tensor | None = None
    """[B, T]"""
    labels: Tensor | None = None
    """[B] classes or numbers, [Q] indices of choices, [B, T] tags, [B, 2] first and last token, or
    the token that follows each one [B, T], of a decoder's [B, U]; unlabelled is IGNORE, or NaN
    where labels are numbers."""
    slots: Tensor | None = None
    """[B, T]: index of the prompt vector at each position, -1 for text and padding."""
    decoder_ids: Tensor | None = None
    """[B, U - 1]: what a decoder reads after its start token; None: nothing."""
    mask_at: Tensor | None = None
    """[B]: position of the template's mask token."""
    weights: Tensor | None = None
    """As `labels`, fp32: how much each counts in the loss, 0 where there is none; None: alike."""
    task: int = 0
    """Which of several tasks that train together it belongs to; a batch is of one."""
    choices: Tensor | None = None
    """[Q, C]: which input is each choice of a question, -1 where it has fewer than C."""
    features: tuple[Feature, ...] | None = None
    """What the rows were collated from, in order: they are the features' inputs; None: unknown."""
    draws: tuple[RowDraws, ...] | None = None
    """What determines the backbone's dropout, for each trial that has rows; None: the global
    generator."""
    pad_id: int = 0
    """What fills input_ids beyond the text."""

    @property
    def rows(self) -> int:
        """Features in the batch: B, or Q where they are questions with choices."""
        return int((self.input_ids if self.choices is None else self.choices).shape[0])

    @property
    def lengths(self) -> tuple[int, ...] | None:
        """Tokens of each input [B]; None: unknown."""
        if self.features is None:
            return None
        return tuple(len(item.input_ids) for feature in self.features for item in feature.inputs)

    @property
    def tokens(self) -> int:
        """Positions that are no padding."""
        return int(self.attention_mask.sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        tensors = {
            item.name: value.to(device, non_blocking=True)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }
        return replace(self, **tensors)  # type: ignore[arg-type]


def collate(
    features: Sequence[Feature],
    pad_id: int,
    kind: Kind,
    class_weights: Sequence[float] | None = None,
) -> Batch:
    """Stack features of one kind into a batch; `class_weights` [C] are those of its classes."""
    inputs = [item for feature in features for item in feature.inputs]
    lengths = np.array([len(item.input_ids) for item in inputs])
    width = int(lengths.max())
    ids = _padded([item.input_ids for item in inputs], width, pad_id)
    mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
    types = [item.token_type_ids for item in inputs]
    slots = [item.slots for item in inputs]
    masks = [item.mask_at for item in inputs]
    labels, targets = _labels(features, width, kind)
    writes = kind_spec(kind).writes
    weights = None
    if class_weights is not None and labels is not None:
        # Where there is no label, index -1 reads the last weight, 0.
        each = torch.tensor([*class_weights, 0.0])
        weights = each[labels.masked_fill(labels == IGNORE, -1)]
        targets = float(weights.sum())
    return Batch(
        input_ids=_tensor(ids),
        attention_mask=_tensor(mask),
        targets=targets,
        token_type_ids=None if None in types else _tensor(_padded(types, width, 0)),
        labels=labels,
        weights=weights,
        slots=None if None in slots else _tensor(_padded(slots, width, -1)),
        decoder_ids=labels[:, :-1].clamp(min=0) if writes and labels is not None else None,
        mask_at=None if None in masks else torch.tensor(masks, dtype=torch.int64),
        task=features[0].task,
        choices=_grouped(features) if kind_spec(kind).answer == "choice" else None,
        features=tuple(features),
        pad_id=pad_id,
    )


def _grouped(features: Sequence[Feature]) -> Tensor:
    """Which of the batch's inputs belong to each feature, [Q, C], -1 beyond its own."""
    counts = [len(feature.inputs) for feature in features]
    starts = accumulate(counts, initial=0)
    rows = [range(start, start + count) for start, count in zip(starts, counts, strict=False)]
    return _tensor(_padded(rows, max(counts), -1))


def _labels(features: Sequence[Feature], width: int, kind: Kind) -> tuple[Tensor | None, float]:
    """Labels of the kind's shape and how many count; None when no row is labelled."""
    given = [feature.label for feature in features]
    if all(label is None for label in given):
        return None, 0
    spec = kind_spec(kind)
    if spec.writes:
        width = max(len(label) for label in given if isinstance(label, list))
    if spec.answer == "tags" or spec.writes:
        tags = _padded([[] if label is None else label for label in given], width, IGNORE)
        return _tensor(tags), int((tags != IGNORE).sum())
    labels = [np.asarray(label, dtype=spec.dtype) for label in given if label is not None]
    blank = np.full_like(labels[0], spec.blank)
    rest = iter(labels)
    rows = [blank if label is None else next(rest) for label in given]
    return torch.from_numpy(np.stack(rows)), len(labels)


def _padded(rows: Sequence[Any], width: int, fill: int) -> npt.NDArray[np.int64]:
    lengths = np.array([len(row) for row in rows])
    padded = np.full((len(rows), width), fill, dtype=np.int64)
    # One conversion of all values takes 0.7 times as long as one for each row.
    padded[np.arange(width) < lengths[:, None]] = np.fromiter(
        chain.from_iterable(rows), np.int64, int(lengths.sum())
    )
    return padded


def _tensor(values: npt.NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(values)


def join_batches(batches: Sequence[Batch], vectors: Sequence[int] | None = None) -> Batch:
    """The inputs of all batches [sum of B, the longest T]; labels stay with their own batches.

    Args:
        batches: at least one, all of one tokenizer.
        vectors: how many prompt vectors each batch brings; slots count those of all batches, one
            batch's after another's.
    """
    if len(batches) == 1:
        return batches[0]
    width = max(batch.input_ids.shape[1] for batch in batches)
    pad_id = batches[0].pad_id
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
        draws=_draws(batches),
        pad_id=pad_id,
    )


def with_prompt_slots(batch: Batch, column: int, length: int) -> Batch:
    """The inputs [B, P + T] with slots for P = `length` prompt vectors before a token column."""

    def wider(tensor: Tensor, fill: int) -> Tensor:
        between = tensor.new_full((tensor.shape[0], length), fill)
        return torch.cat([tensor[:, :column], between, tensor[:, column:]], dim=1)

    types = batch.token_type_ids
    slots = wider(torch.full_like(batch.input_ids, -1), 0)
    slots[:, column : column + length] = torch.arange(length, device=slots.device)
    return replace(
        batch,
        input_ids=wider(batch.input_ids, batch.pad_id),
        attention_mask=wider(batch.attention_mask, 1),
        token_type_ids=None if types is None else wider(types, 0),
        slots=slots,
        draws=batch.draws and tuple(draws.widened(length) for draws in batch.draws),
    )


def _draws(batches: Sequence[Batch]) -> tuple[RowDraws, ...] | None:
    """Those of all batches, or None if one has none."""
    known = [batch.draws for batch in batches if batch.draws is not None]
    return tuple(chain.from_iterable(known)) if len(known) == len(batches) else None


def _features(batches: Sequence[Batch]) -> tuple[Feature, ...] | None:
    """Features of all batches, or None if one does not know its own."""
    known = [batch.features for batch in batches if batch.features is not None]
    return tuple(chain.from_iterable(known)) if len(known) == len(batches) else None


def _slots(batches: Sequence[Batch], width: int, vectors: Sequence[int]) -> Tensor | None:
    """Slots of all batches, or None if no batch has any."""
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
