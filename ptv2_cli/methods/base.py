"""The module that every method builds, and what it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.layer_parts import LayerParts
from ptv2_cli.backbones.lm_head import Vocabulary
from ptv2_cli.backbones.sites import KeysValues, Prompts, Site
from ptv2_cli.inputs.ragged import Ragged


@dataclass(frozen=True)
class Context:
    """What a method may know of the run it is built for."""

    prompt_len: int
    """P; 0 for a method without prompt."""
    sites: Sequence[Site]
    model: nn.Module
    """The backbone's model, in which `Site.module` names attention modules."""
    hidden_size: int
    dropout: float
    """The backbone's hidden dropout, the default of prompts and head."""
    word_embeddings: Tensor
    """The frozen input embedding table [V, E]."""
    label_pieces: Sequence[Sequence[int]]
    """Token ids of each label's words; empty for tasks without labels."""
    seed: int
    init: torch.Generator
    """Draws the initial values."""
    vocabulary: Vocabulary
    read: Callable[[Sequence[int]], Sequence[KeysValues]]
    """Keys and values [1, K, T, D] of every site that the frozen model computes for tokens."""
    parts: Callable[[], Sequence[LayerParts]]
    """Where the parts of each layer are, site by site."""
    train_inputs: Callable[[], Ragged]
    """The token ids of the run's train rows, as the model reads them; a run that was trained
    already has none."""
    trained: Callable[[str], Mapping[int, KeysValues]]
    """Keys and values [1, K, P, D] by site of the run in a folder."""


class Method(nn.Module):
    """What trains beside the head: forward gives the prompts of one forward pass."""

    offset: int = 0
    """Positions by which the text's own are shifted."""
    lowest: int = 0
    """The lowest layer that reads its prompts or is edited, counted from 0 in its stack."""
    backbone_lr: float | None = None
    """Learning rate of a backbone that trains; None: the run's own."""
    inside_attention: str | None = None
    """As its spec says: learners in which it differs share no forward pass."""
    notes: tuple[str, ...] = ()
    """What the user should know of how the prompts were made."""

    def __init__(self, *, trains_backbone: bool = False) -> None:
        super().__init__()
        self.trains_backbone = trains_backbone

    def forward(self) -> Prompts:
        """The prompts of one forward pass."""
        return Prompts()

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """Parameters that have a learning rate of their own: factors on the method's rate."""
        return {}

    def counts(self) -> dict[str, int]:
        """Trainable values: `prompt` vectors, the `reparam` network that makes them, and `adapter`
        inside the backbone's layers."""
        return {"prompt": 0, "reparam": 0}
