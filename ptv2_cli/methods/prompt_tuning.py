"""Prompt tuning: trained vectors beside the word embeddings (Lester et al., arXiv 2104.08691)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ptv2_cli.backbones.sites import InputVectors, Prompts, Stack
from ptv2_cli.config.schema import Section
from ptv2_cli.methods.base import Context, Method, TrainDefaults, frozen_defaults
from ptv2_cli.rng import normal_

NORMAL_STD = 0.02
LEARNING_RATES = {"sequence": 3e-2, "regression": 3e-2, "choice": 3e-2, "token": 1e-2, "span": 1e-2}


class PromptTuningOptions(Section):
    """Options of `method: prompt_tuning`."""

    init: Literal["normal", "vocab", "labels"] = Field(
        "vocab", description="vocab: random words; labels: the labels' words, then vocab"
    )
    place: Literal["before_cls", "after_cls"] = Field(
        "after_cls", description="before or after the text's first token"
    )


class PromptTuning(Method):
    """Trains P vectors that enter where word embeddings do, at the input alone.

    The vectors are [P, E]. Positions, token types and LayerNorm are the model's own, applied once.
    """

    Options = PromptTuningOptions
    in_input = True

    def __init__(self, options: PromptTuningOptions, prompt_len: int, context: Context) -> None:
        super().__init__(options, prompt_len, context)
        self.column = self.input_column(options)
        # Words may be held in fewer bits than what trains.
        self.prompt = nn.Parameter(_initial(options.init, prompt_len, context).float())

    @classmethod
    def defaults(cls, kind: str, options: Any) -> TrainDefaults:
        """Our starting points: 3e-2, 1e-2 for tags and spans."""
        return frozen_defaults(LEARNING_RATES, kind)

    @classmethod
    def places(
        cls, options: PromptTuningOptions, prompt_len: int | None, stacks: Mapping[Stack, int]
    ) -> str:
        """Before or after the first token."""
        where = options.place.replace("_cls", " the first token")
        return f"{prompt_len} vectors beside the word embeddings, {where}"

    @classmethod
    def input_column(cls, options: PromptTuningOptions) -> int | None:
        """0 before the first token, 1 after it."""
        return 0 if options.place == "before_cls" else 1

    def forward(self) -> Prompts:
        """The vectors and the column before which they stand."""
        return Prompts(inputs=InputVectors(self.prompt, self.column))

    def counts(self) -> dict[str, int]:
        """P * E prompt values."""
        return {"prompt": self.prompt.numel(), "reparam": 0}


def _initial(kind: str, length: int, context: Context) -> Tensor:
    table = context.word_embeddings.detach()
    if kind == "normal":
        vectors = torch.empty(length, table.shape[1])
        normal_(vectors, NORMAL_STD, context.init)
        return vectors
    labels = _label_vectors(table, context)[:length] if kind == "labels" else table[:0]
    words = torch.randint(len(table), (length - len(labels),), generator=context.init)
    return torch.cat([labels, table[words]]).clone()


def _label_vectors(table: Tensor, context: Context) -> Tensor:
    """A row for each label: the mean of its words' embeddings [C, E]."""
    rows = [table[list(pieces)].mean(dim=0) for pieces in context.label_pieces if pieces]
    return torch.stack(rows) if rows else table[:0]
