"""The cells of the matrix family x head x method: batches, learners and what is read of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tiny
import torch
from torch import Tensor

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.kinds import IGNORE, kind_spec
from ptv2_cli.learner import Learner

KINDS = ("sequence", "token", "span", "choice")
PROMPTED = ("ptuning_v2", "prompt_tuning", "ptuning_v1")
FROZEN = (*PROMPTED, "head_only")
METHODS = (*FROZEN, "finetune")
P = 4
"""Prompt length."""
CELLS = [(family, kind, method) for family in FAMILIES for kind in KINDS for method in METHODS]


def cells(methods: Sequence[str]) -> list[tuple[str, str, str]]:
    """The cells of these methods, regression beside the other heads for one family."""
    chosen = [cell for cell in CELLS if cell[2] in methods]
    return chosen + [("bert", "regression", method) for method in methods]


def batch_of(kind: str, family: str, method: str) -> Batch:
    """Inputs of 9 and 7 tokens, or two questions of two and of three choices, with labels."""
    lengths = [9, 7, 6, 8, 7] if kind == "choice" else [9, 7]
    batch = tiny.text_batch(lengths)
    if method == "ptuning_v1":
        batch = _with_template(batch, lengths, kind, FAMILIES[family].masks)
    if kind == "token":
        tags = torch.arange(9) % 3
        labels = torch.where(batch.attention_mask.bool(), tags, IGNORE)
    elif kind == "regression":
        labels = torch.tensor([0.5, -1.0])
    else:
        labels = torch.tensor({"span": [[3, 5], [2, 2]]}.get(kind, [1, 2]))
    choices = torch.tensor([[0, 1, -1], [2, 3, 4]]) if kind == "choice" else None
    return replace(batch, labels=labels, choices=choices)


def _with_template(batch: Batch, lengths: Sequence[int], kind: str, masks: bool) -> Batch:
    """Prompt slots after the first token and before the last, and a mask token to be read."""
    slots = torch.full_like(batch.input_ids, -1)
    for row, length in enumerate(lengths):
        slots[row, 1:3] = torch.tensor([0, 1])
        slots[row, length - 3 : length - 1] = torch.tensor([2, 3])
    ids = batch.input_ids.masked_fill(slots >= 0, 0)
    mask_at = torch.full((len(lengths),), 3) if masks and kind_spec(kind).pooled else None
    return replace(batch, input_ids=ids, slots=slots, mask_at=mask_at)


def rows_of(batch: Batch, rows: slice, choices: Tensor | None = None) -> Batch:
    """Some inputs by themselves, unlabelled and as wide as the longest of them."""
    width = int(batch.attention_mask[rows].sum(dim=1).max())

    def cut(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[rows, :width]

    return replace(
        batch,
        input_ids=batch.input_ids[rows, :width],
        attention_mask=batch.attention_mask[rows, :width],
        slots=cut(batch.slots),
        mask_at=None if batch.mask_at is None else batch.mask_at[rows],
        labels=None,
        choices=choices,
    )


class Backbones:
    """Tiny backbones, loaded once: whole, or the encoder alone."""

    def __init__(self, folder_of: Any) -> None:
        self._folder_of = folder_of
        self._made: dict[tuple[str, bool], Backbone] = {}

    def get(self, family: str, kind: str) -> Backbone:
        """The backbone as a head of this kind has it; all frozen, without gradients."""
        alone = FAMILIES[family].two_stacks and not kind_spec(kind).pooled
        if (family, alone) not in self._made:
            backbone = tiny.load(self._folder_of(family))
            if alone:
                backbone.drop_decoder()
            self._made[family, alone] = backbone
        found = self._made[family, alone]
        found.requires_grad_(False)
        for parameter in found.parameters():
            parameter.grad = None
        return found


def learner_of(backbone: Backbone, kind: str, method: str, seed: int = 0) -> Learner:
    """A learner whose prompts and head are wide enough for mistakes to show."""
    options: dict[str, Any] = {"init": {"normal": 1.0}} if method == "ptuning_v2" else {}
    length = P if method in PROMPTED else None
    pooling = backbone.shape.family.pooling
    learner = tiny.make_learner(
        backbone, method, length, kind=kind, pooling=pooling, seed=seed, **options
    )
    with torch.no_grad():
        learner.head.linear.weight.mul_(25.0)
    return learner


def predicted(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """All predictions by name, without a graph."""
    with torch.no_grad():
        return dict(learner(batch).predictions)


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The greatest difference between two predictions of one batch."""
    return max(
        float((one[name] - other[name]).masked_fill(one[name].isinf(), 0.0).abs().max())
        for name in one
    )
