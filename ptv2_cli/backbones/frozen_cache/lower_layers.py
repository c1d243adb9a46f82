"""Outputs of the layers below the lowest prompt: computed once, and kept for who asks again.

Nothing that trains stands below the lowest prompt. As long as no dropout is drawn there, a text
gives the same hidden states in every epoch and for every lane of a sweep.
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
from ptv2_cli.backbones.layer_split import Halves
from ptv2_cli.backbones.probe import LENGTH, random_prompt
from ptv2_cli.backbones.sites import Prompts, TextBatch
from ptv2_cli.errors import BackboneError

Key = tuple[int, int, bytes, bytes]
"""What lower layers make hidden states from: their number, the offset of the text's positions,
token ids and segment ids. Rows of equal text are one row, whichever data set they come from."""


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
        """The rows of a batch that it stands for."""


class LowerStates:
    """Hidden states as the backbone gives them, lower layers taken from what was kept.

    One object serves one backbone and its views. Where nothing can be kept it is the plain
    forward pass: prompts at the first layer or among the inputs, a backbone that trains or draws
    dropout, rows that nobody else will ask for, a batch without features, and (for `epoch`) a
    model whose layers hand on more than hidden states.

    Attributes:
        takers: how many will ask for each row in an epoch, where it is kept for an epoch alone.
        computed: rows whose lower layers were computed so far.
    """

    def __init__(self, keep: Keep, folder: Path | None = None, takers: int = 1) -> None:
        self.keep = keep
        self.takers = takers
        self.computed = 0
        self._store = open_store(keep, folder)
        self._halves: Halves | None = None
        self._works: bool | None = None

    def hidden(self, backbone: Backbone, batch: TextBatch, prompts: Prompts) -> Tensor:
        """What `backbone(batch, prompts)` gives: [B, T, H], or [B, 1, H] out of a decoder.

        Where padding stands its values differ. Rows whose lower outputs are not kept yet are
        computed together, without a graph.

        Raises:
            BackboneError: they are to be kept for the run, and the model's upper layers cannot
                go on from them.
        """
        halves = self._halves_of(backbone)
        depth = halves.depth(backbone, prompts)
        if depth and not self._worth(backbone, batch, depth):
            self.computed += batch.input_ids.shape[0]
            depth = 0
        if depth == 0:
            plain: Tensor = backbone(batch, prompts)
            return plain
        with torch.no_grad():
            states = self._states(backbone, batch, prompts, depth)
        if depth == halves.layers:
            return states
        return halves.upper(backbone, batch, prompts, depth, states)

    def close(self) -> None:
        """Give back what is kept."""
        self._store.close()

    def _halves_of(self, backbone: Backbone) -> Halves:
        if self._halves is None or self._halves.model is not backbone.model:
            self._halves, self._works = Halves(backbone), None
        return self._halves

    def _worth(self, backbone: Backbone, batch: TextBatch, depth: int) -> bool:
        """Whether lower outputs can be kept, and somebody will ask for them."""
        if _features(batch) is None or (self.keep == "epoch" and self.takers == 1):
            return False
        if any(parameter.requires_grad for parameter in backbone.model.parameters()):
            return False
        if backbone.training and not is_silent(backbone.model.config):
            return False
        assert self._halves is not None
        return depth == self._halves.layers or self._parts(backbone)

    def _parts(self, backbone: Backbone) -> bool:
        """Whether the model can be entered between two layers; tried once."""
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
        """Outputs of the first `depth` layers [B, T, H], zeros where padding stands."""
        keys = _keys(batch, prompts, depth)
        asked = Counter(keys)
        found = {key: self._store.take(key, times) for key, times in asked.items()}
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        missing = sorted(first[key] for key, states in found.items() if states is None)
        if missing:
            fresh = self._compute(backbone, batch, prompts, depth, missing)
            for row, own in zip(missing, fresh, strict=True):
                key = keys[row]
                found[key] = own
                self._store.put(key, own, self.takers - asked[key])
        rows = [states for key in keys if (states := found[key]) is not None]
        return _Places.of(backbone, batch).filled(rows)

    def _compute(
        self, backbone: Backbone, batch: TextBatch, prompts: Prompts, depth: int, rows: list[int]
    ) -> tuple[Tensor, ...]:
        """Outputs of the first `depth` layers of some rows, each [T, H] without its padding."""
        self.computed += len(rows)
        at = torch.tensor(rows, device=batch.input_ids.device)
        types = batch.token_type_ids
        some = Rows(
            batch.input_ids[at],
            batch.attention_mask[at],
            None if types is None else types[at],
        )
        # Keys and values of the prompts stay: those of other rows, but nobody looks at them here.
        if isinstance(prompts.offset, Tensor):
            prompts = replace(prompts, offset=prompts.offset[rows])
        hidden = self._halves_of(backbone).lower(backbone, some, prompts, depth)
        return _Places.of(backbone, some).rows_of(hidden)


@dataclass(frozen=True)
class _Places:
    """Where the tokens of a batch stand among its padding."""

    shape: tuple[int, int]
    lengths: list[int]
    at: tuple[Tensor, ...]
    """Row and column of every token."""

    @classmethod
    def of(cls, backbone: Backbone, batch: TextBatch) -> _Places:
        """Those of a batch's hidden states; a decoder gives one for each row."""
        mask, device = batch.attention_mask, batch.attention_mask.device
        # Counted on the CPU: lengths are needed there, and this waits for the device once.
        real = (mask[:, :1] * 0 + 1 if backbone.decodes else mask).cpu().bool()
        at = real.nonzero(as_tuple=True)
        return cls(
            (real.shape[0], real.shape[1]),
            real.sum(dim=1).tolist(),
            tuple(index.to(device) for index in at),
        )

    def rows_of(self, hidden: Tensor) -> tuple[Tensor, ...]:
        """[B, T, H] -> B times [T', H]."""
        return torch.split(hidden[self.at], self.lengths)

    def filled(self, rows: Sequence[Tensor]) -> Tensor:
        """B times [T', H], wherever they are -> [B, T, H] on the batch's device."""
        device = self.at[0].device
        trainer = torch.cat([row.to(device, non_blocking=True) for row in rows])
        states = trainer.new_zeros(*self.shape, trainer.shape[1])
        states[self.at] = trainer
        return states


def _keys(batch: TextBatch, prompts: Prompts, depth: int) -> list[Key]:
    """What each row of the batch is known by."""
    offset = prompts.offset
    inputs = [item for feature in _features(batch) or () for item in feature.inputs]
    offsets = offset.tolist() if isinstance(offset, Tensor) else [offset] * len(inputs)
    return [
        (depth, before, _bytes(item.input_ids), _bytes(item.token_type_ids or []))
        for item, before in zip(inputs, offsets, strict=True)
    ]


def _features(batch: TextBatch) -> Sequence[_Feature] | None:
    """What the batch's rows were made from, if it knows."""
    found: Sequence[_Feature] | None = getattr(batch, "features", None)
    return found


def _bytes(ids: list[int]) -> bytes:
    return array("i", ids).tobytes()


LENGTHS = (5, 3)
"""Tokens of the two texts of the check: one of them is padded."""
TOLERANCE = {torch.float32: 1e-3}
"""Largest norm of a difference against the norm of the whole, by the type of the weights."""
HALF_TOLERANCE = 5e-2
"""The same where weights are held in fewer bits."""


@dataclass(frozen=True)
class Rows:
    """Some texts as a backbone reads them."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None = None
    slots: Tensor | None = None


def check_lower(backbone: Backbone, name: str) -> None:
    """Compare forward passes from kept lower layers with whole ones, padded text included.

    Raises:
        BackboneError: they differ, so layers hand on more than the hidden states that are kept.
    """
    training = backbone.training
    backbone.eval()
    device = backbone.word_embeddings.device
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            halves = Halves(backbone)
            depths = {
                halves.depth(backbone, _prompts(backbone, at)) for at in (1, halves.layers - 1)
            }
            for depth in sorted(depths - {0}):
                if not _agrees(backbone, halves, depth):
                    raise BackboneError.at(
                        "train.cache",
                        f"{backbone.shape.family.name} layers hand more to each other than hidden "
                        f"states: those of {name} cannot go on from kept outputs of lower ones",
                        "leave train.cache out; method: head_only can keep its outputs",
                    )
    finally:
        backbone.train(training)


def _agrees(backbone: Backbone, halves: Halves, depth: int) -> bool:
    text, prompts = _text(backbone), _prompts(backbone, depth)
    whole = backbone(text, prompts)
    real = text.attention_mask[..., None].bool()
    # Padding is not kept: zeros stand in its place.
    states = halves.lower(backbone, text, prompts, depth) * real
    found = halves.upper(backbone, text, prompts, depth, states)
    apart = ((found - whole) * real).float().norm() / (whole * real).float().norm()
    return bool(apart < TOLERANCE.get(backbone.word_embeddings.dtype, HALF_TOLERANCE))


def _prompts(backbone: Backbone, lowest: int) -> Prompts:
    """Random prompts at the layers from `lowest` upwards."""
    draws = torch.Generator().manual_seed(0)
    device = backbone.word_embeddings.device
    found = {}
    for at, site in enumerate(backbone.sites):
        keys, values = random_prompt(site, draws)
        if site.layer >= lowest:
            found[at] = (keys.to(device), values.to(device))
    return Prompts(keys_values=found, offset=LENGTH)


def _text(backbone: Backbone) -> Rows:
    """Two texts of unequal length, out of the middle of the vocabulary."""
    table = backbone.word_embeddings
    lengths = torch.tensor(LENGTHS, device=table.device)[:, None]
    mask = (torch.arange(max(LENGTHS), device=table.device) < lengths).long()
    ids = torch.arange(mask.numel(), device=table.device).view_as(mask) + table.shape[0] // 2
    return Rows(ids * mask, mask)
