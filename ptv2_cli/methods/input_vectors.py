"""The modules of prompt tuning and P-tuning: vectors among the word embeddings."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.sites import InputVectors, Prompts
from ptv2_cli.methods.base import Context, Method
from ptv2_cli.rng import normal_

NORMAL_STD = 0.02


class WordVectors(Method):
    """P vectors [P, E] before one token column.

    The model adds positions and token types and applies its LayerNorm, as for words.
    """

    def __init__(self, init: str, column: int, context: Context) -> None:
        super().__init__()
        self.column = column
        # Word embeddings may have fewer bits; trained values are fp32.
        self.prompt = nn.Parameter(_initial(init, context.prompt_len, context).float())

    def forward(self) -> Prompts:
        """The vectors and the column before which they are inserted."""
        return Prompts(inputs=InputVectors(self.prompt, self.column))

    def counts(self) -> dict[str, int]:
        """P * E prompt values."""
        return {"prompt": self.prompt.numel(), "reparam": 0}


class EncodedVectors(Method):
    """Embedding(P, E) -> two-layer bidirectional LSTM -> Linear, ReLU, Linear, or the MLP alone.

    The vectors [P, E] stand at the batch's `slots`, which come from the template.
    """

    def __init__(
        self, encoder: Literal["lstm", "mlp"], context: Context, *, trains_backbone: bool
    ) -> None:
        super().__init__(trains_backbone=trains_backbone)
        size = context.word_embeddings.shape[1]
        self.prompt = nn.Parameter(torch.empty(context.prompt_len, size))
        # Half the width for each direction; the first Linear makes up for an odd width.
        self.lstm = (
            nn.LSTM(size, size // 2, num_layers=2, bidirectional=True, batch_first=True)
            if encoder == "lstm"
            else None
        )
        joined = size if self.lstm is None else 2 * (size // 2)
        self.mlp = nn.Sequential(nn.Linear(joined, size), nn.ReLU(), nn.Linear(size, size))
        self._draw(context.init)

    def forward(self) -> Prompts:
        """The encoded vectors, for the batch's slots."""
        states: Tensor = self.prompt
        if self.lstm is not None:
            states = self.lstm(states[None])[0][0]
        return Prompts(inputs=InputVectors(self.mlp(states), column=None))

    def counts(self) -> dict[str, int]:
        """P * E prompt values, and those of the encoder."""
        total = sum(parameter.numel() for parameter in self.parameters())
        return {"prompt": self.prompt.numel(), "reparam": total - self.prompt.numel()}

    def _draw(self, init: torch.Generator) -> None:
        """Torch's default ranges of initial values, drawn from the trial's generator."""
        normal_(self.prompt, 1.0, init)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.in_features)
            elif isinstance(module, nn.LSTM):
                bound = 1 / math.sqrt(module.hidden_size)
            else:
                continue
            with torch.no_grad():
                for parameter in module.parameters(recurse=False):
                    parameter.uniform_(-bound, bound, generator=init)


def _initial(init: str, length: int, context: Context) -> Tensor:
    table = context.word_embeddings.detach()
    if init == "normal":
        vectors = torch.empty(length, table.shape[1])
        normal_(vectors, NORMAL_STD, context.init)
        return vectors
    labels = _label_vectors(table, context)[:length] if init == "labels" else table[:0]
    words = torch.randint(len(table), (length - len(labels),), generator=context.init)
    return torch.cat([labels, table[words]]).clone()


def _label_vectors(table: Tensor, context: Context) -> Tensor:
    """A row for each label: the mean of its words' embeddings [C, E]."""
    rows = [table[list(pieces)].mean(dim=0) for pieces in context.label_pieces if pieces]
    return torch.stack(rows) if rows else table[:0]
