"""The base class of a method's module, and the context that builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.language.lm_head import Vocabulary
from ptv2_cli.backbones.layer_parts import LayerParts
from ptv2_cli.backbones.sites import KeysValues, Prompts, Site
from ptv2_cli.inputs.ragged import Ragged


@dataclass(frozen=True)
class Context:
    """What a method knows of its run."""

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
    """The names of attention outputs and feed-forward modules, site by site."""
    train_inputs: Callable[[], Ragged]
    """The token ids of the train rows, as the model reads them; none for a finished run."""
    trained: Callable[[str], Mapping[int, KeysValues]]
    """Run folder -> its prompt keys and values [1, K, P, D] by site."""


class Method(nn.Module):
    """What trains besides the head; forward returns the prompts of one forward pass."""

    offset: int = 0
    """Number by which the text's positions are shifted."""
    lowest: int = 0
    """The lowest layer with a prompt or an edit, counted from 0 in its stack."""
    backbone_lr: float | None = None
    """Learning rate of a backbone that trains; None: that of the run."""
    inside_attention: str | None = None
    """That of the spec; learners with different values do not share a forward pass."""
    notes: tuple[str, ...] = ()
    """Notes for the user on the initial values."""

    def __init__(self, *, trains_backbone: bool = False) -> None:
        super().__init__()
        self.trains_backbone = trains_backbone

    def forward(self) -> Prompts:
        """The prompts of one forward pass."""
        return Prompts()

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """Factors on the method's learning rate, for parameters with a different rate."""
        return {}

    def counts(self) -> dict[str, int]:
        """Numbers of trained values: `prompt`, `reparam` (the network that computes the prompt) and
        `adapter` (inside the backbone's layers)."""
        return {"prompt": 0, "reparam": 0}
