"""Outputs of the layers below the lowest prompt, computed once and cached.

Nothing trains below the lowest prompt. Without dropout there, a text has the same hidden states
in every epoch and for every lane of a sweep.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.families import is_silent
from ptv2_cli.backbones.frozen_cache.activation_store import Keep, open_store
from ptv2_cli.backbones.layer_split import LayerSplit
from ptv2_cli.backbones.probe import LENGTH, random_prompt
from ptv2_cli.backbones.sites import PlainBatch, Prompts, TextBatch
from ptv2_cli.errors import BackboneError

Key = tuple[int, int, bytes, bytes]
"""What the outputs of lower layers depend on: the number of layers, the offset of the text's
positions, token ids and segment ids. Rows of equal text share an entry."""


class _Input(Protocol):
    @property
    def input_ids(self) -> list[int]:
        """Token ids [T]."""

    @property
    def token_type_ids(self) -> list[int] | None:
        """Segment ids [T]."""


class _Feature(Protocol):
    @property
    def inputs(self) -> Sequence[_Input]:
        """Its rows of a batch."""


class LowerStates:
    """The backbone's hidden states, with cached outputs of the lower layers.

    One object serves one backbone and its views. It runs the plain forward pass if nothing can
    be cached: with prompts at the first layer or among the inputs, a backbone that trains or
    draws dropout, rows that are needed once, a batch without features, and (for `epoch`) a model
    whose layers pass on more than hidden states.

    Attributes:
        takers: how often each row is needed in an epoch, if the cache lasts for one epoch.
        computed: number of rows whose lower layers were computed so far.
    """

    def __init__(self, keep: Keep, folder: Path | None = None, takers: int = 1) -> None:
        self.keep = keep
        self.takers = takers
        self.computed = 0
        self._store = open_store(keep, folder)
        self._split: LayerSplit | None = None
        self._works: bool | None = None

    def hidden(self, backbone: Backbone, batch: TextBatch, prompts: Prompts) -> Tensor:
        """The output of `backbone(batch, prompts)`: [B, T, H], or [B, 1, H] from a decoder.

        Values at padding differ. Rows that are not in the cache yet are computed together,
        without a graph.

        Raises:
            BackboneError: the outputs must be kept for the run, but the model's upper layers
                cannot start from them.
        """
        split = self._split_of(backbone)
        depth = split.depth(backbone, prompts)
        if depth and not self._can_cache(backbone, batch, depth):
            self.computed += batch.input_ids.shape[0]
            depth = 0
        if depth == 0:
            plain: Tensor = backbone(batch, prompts)
            return plain
        with torch.no_grad():
            states = self._states(backbone, batch, prompts, depth)
        if depth == split.layers:
            return states
        return split.upper(backbone, batch, prompts, depth, states)

    def close(self) -> None:
        """Empty the cache."""
        self._store.close()

    def _split_of(self, backbone: Backbone) -> LayerSplit:
        if self._split is None or self._split.model is not backbone.model:
            self._split, self._works = LayerSplit(backbone), None
        return self._split

    def _can_cache(self, backbone: Backbone, batch: TextBatch, depth: int) -> bool:
        """Whether lower outputs can be cached and will be needed again."""
        if _features(batch) is None or (self.keep == "epoch" and self.takers == 1):
            return False
        if any(parameter.requires_grad for parameter in backbone.model.parameters()):
            return False
        if backbone.training and not is_silent(backbone.model.config):
            return False
        assert self._split is not None
        return depth == self._split.layers or self._can_split(backbone)

    def _can_split(self, backbone: Backbone) -> bool:
        """Whether the forward pass can start between two layers; checked once."""
        if self._works is None:
            try:
                check_lower(backbone, backbone.shape.family.name)
            except BackboneError:
                if self.keep != "epoch":
                    raise
                self._works = False
            else:
                self._works = True
        return self._works

    def _states(self, backbone: Backbone, batch: TextBatch, prompts: Prompts, depth: int) -> Tensor:
        """Outputs of the first `depth` layers [B, T, H], zeros at padding."""
        keys = _keys(batch, prompts, depth)
        counts = Counter(keys)
        cached = {key: self._store.take(key, times) for key, times in counts.items()}
        first_row = {key: row for row, key in reversed(list(enumerate(keys)))}
        missing = sorted(first_row[key] for key, states in cached.items() if states is None)
        if missing:
            computed = self._compute(backbone, batch, prompts, depth, missing)
            for row, states in zip(missing, computed, strict=True):
                key = keys[row]
                cached[key] = states
                self._store.put(key, states, self.takers - counts[key])
        rows = [row_states for key in keys if (row_states := cached[key]) is not None]
        return _TokenPositions.of(backbone, batch).filled(rows)

    def _compute(
        self, backbone: Backbone, batch: TextBatch, prompts: Prompts, depth: int, rows: list[int]
    ) -> tuple[Tensor, ...]:
        """Outputs of the first `depth` layers of some rows, each [T, H] without its padding."""
        self.computed += len(rows)
        index = torch.tensor(rows, device=batch.input_ids.device)
        types = batch.token_type_ids
        some = PlainBatch(
            batch.input_ids[index],
            batch.attention_mask[index],
            None if types is None else types[index],
        )
        # The keys and values of the prompts belong to other rows, but lower layers do not use them.
        if isinstance(prompts.offset, Tensor):
            prompts = replace(prompts, offset=prompts.offset[rows])
        hidden = self._split_of(backbone).lower(backbone, some, prompts, depth)
        return _TokenPositions.of(backbone, some).rows_of(hidden)


@dataclass(frozen=True)
class _TokenPositions:
    """The positions of the tokens of a batch, without padding."""

    shape: tuple[int, int]
    lengths: list[int]
    index: tuple[Tensor, ...]
    """Row and column of every token."""

    @classmethod
    def of(cls, backbone: Backbone, batch: TextBatch) -> _TokenPositions:
        """Those of a batch's hidden states; a decoder has one position per row."""
        mask, device = batch.attention_mask, batch.attention_mask.device
        # Counted on the CPU, where the lengths are needed: this waits for the device only once.
        real = (mask[:, :1] * 0 + 1 if backbone.decodes else mask).cpu().bool()
        positions = real.nonzero(as_tuple=True)
        return cls(
            (real.shape[0], real.shape[1]),
            real.sum(dim=1).tolist(),
            tuple(part.to(device) for part in positions),
        )

    def rows_of(self, hidden: Tensor) -> tuple[Tensor, ...]:
        """[B, T, H] -> B times [T', H]."""
        return torch.split(hidden[self.index], self.lengths)

    def filled(self, rows: Sequence[Tensor]) -> Tensor:
        """B times [T', H] on any device -> [B, T, H] on the batch's device."""
        device = self.index[0].device
        tokens = torch.cat([row.to(device, non_blocking=True) for row in rows])
        states = tokens.new_zeros(*self.shape, tokens.shape[1])
        states[self.index] = tokens
        return states


def _keys(batch: TextBatch, prompts: Prompts, depth: int) -> list[Key]:
    """The cache key of each row."""
    offset = prompts.offset
    inputs = [item for feature in _features(batch) or () for item in feature.inputs]
    offsets = offset.tolist() if isinstance(offset, Tensor) else [offset] * len(inputs)
    return [
        (depth, before, _bytes(item.input_ids), _bytes(item.token_type_ids or []))
        for item, before in zip(inputs, offsets, strict=True)
    ]


def _features(batch: TextBatch) -> Sequence[_Feature] | None:
    """The features that the batch was made from, if it has them."""
    features: Sequence[_Feature] | None = getattr(batch, "features", None)
    return features


def _bytes(ids: list[int]) -> bytes:
    return array("i", ids).tobytes()


LENGTHS = (5, 3)
"""Tokens of the two texts of the check; the second is padded."""
TOLERANCE = {torch.float32: 1e-3}
"""Largest accepted ratio of the norm of the difference to the norm of the output, by type."""
HALF_TOLERANCE = 5e-2
"""The same for weights with fewer bits."""


def check_lower(backbone: Backbone, name: str) -> None:
    """Compare forward passes that start from cached outputs with whole ones, with padding.

    Raises:
        BackboneError: they differ, so layers pass on more than the cached hidden states.
    """
    training = backbone.training
    backbone.eval()
    device = backbone.word_embeddings.device
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            split = LayerSplit(backbone)
            depths = {
                split.depth(backbone, _prompts(backbone, layer)) for layer in (1, split.layers - 1)
            }
            for depth in sorted(depths - {0}):
                if not _agrees(backbone, split, depth):
                    raise BackboneError.at(
                        "train.cache",
                        f"{backbone.shape.family.name} layers pass on more than hidden states, so "
                        f"those of {name} cannot start from cached outputs",
                        "remove train.cache; method: head_only can use it",
                    )
    finally:
        backbone.train(training)


def _agrees(backbone: Backbone, split: LayerSplit, depth: int) -> bool:
    text, prompts = _text(backbone), _prompts(backbone, depth)
    whole = backbone(text, prompts)
    real = text.attention_mask[..., None].bool()
    # Padding is not cached: it is zero.
    states = split.lower(backbone, text, prompts, depth) * real
    output = split.upper(backbone, text, prompts, depth, states)
    difference = ((output - whole) * real).float().norm() / (whole * real).float().norm()
    return bool(difference < TOLERANCE.get(backbone.word_embeddings.dtype, HALF_TOLERANCE))


def _prompts(backbone: Backbone, lowest: int) -> Prompts:
    """Random prompts at the layers from `lowest` upwards."""
    draws = torch.Generator().manual_seed(0)
    device = backbone.word_embeddings.device
    prompts = {}
    for number, site in enumerate(backbone.sites):
        keys, values = random_prompt(site, draws)
        if site.layer >= lowest:
            prompts[number] = (keys.to(device), values.to(device))
    return Prompts(keys_values=prompts, offset=LENGTH)


def _text(backbone: Backbone) -> PlainBatch:
    """Two texts of unequal length, from the middle of the vocabulary."""
    table = backbone.word_embeddings
    lengths = torch.tensor(LENGTHS, device=table.device)[:, None]
    mask = (torch.arange(max(LENGTHS), device=table.device) < lengths).long()
    ids = torch.arange(mask.numel(), device=table.device).view_as(mask) + table.shape[0] // 2
    return PlainBatch(ids * mask, mask)
