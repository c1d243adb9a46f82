"""P-tuning: vectors at the places of a template, out of a small network (arXiv 2103.10385)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ptv2_cli.backbones.sites import InputVectors, Prompts, Stack
from ptv2_cli.config.schema import Section, Text
from ptv2_cli.kinds import kind_spec
from ptv2_cli.methods.base import Context, Method, TrainDefaults
from ptv2_cli.rng import normal_

FROZEN_LR = 1e-3
TUNED_LR = 1e-4


class PTuningV1Options(Section):
    """Options of `method: ptuning_v1`."""

    template: Text | None = Field(
        None,
        description="places of prompt vectors and columns: {p:3} {premise} {p:3} {hypothesis} "
        "{mask}; default: prompt_len spread around the task's columns",
    )
    encoder: Literal["lstm", "mlp"] = Field("lstm", description="network that makes the vectors")
    train_backbone: bool = Field(False, description="the backbone trains too")
    backbone_lr: Annotated[float, Field(gt=0)] = Field(
        1e-5, description="the backbone's own learning rate when it trains"
    )


class PTuningV1(Method):
    """Trains vectors at the places of a template, and the small network that makes them.

    Embedding(P, E) -> two-layer bidirectional LSTM -> Linear, ReLU, Linear, or the MLP alone.
    The vectors [P, E] stand at the batch's `slots`, which the template's encoder has laid out.
    """

    Options = PTuningV1Options
    uses_template = True
    in_input = True

    def __init__(self, options: PTuningV1Options, prompt_len: int, context: Context) -> None:
        super().__init__(options, prompt_len, context)
        size = context.word_embeddings.shape[1]
        self.trains_backbone = options.train_backbone
        self.backbone_lr = options.backbone_lr
        self.prompt = nn.Parameter(torch.empty(prompt_len, size))
        # Half the width for each direction; an odd width is made whole by the first Linear.
        self.lstm = (
            nn.LSTM(size, size // 2, num_layers=2, bidirectional=True, batch_first=True)
            if options.encoder == "lstm"
            else None
        )
        joined = size if self.lstm is None else 2 * (size // 2)
        self.mlp = nn.Sequential(nn.Linear(joined, size), nn.ReLU(), nn.Linear(size, size))
        self._draw(context.init)

    @classmethod
    def defaults(cls, kind: str, options: Any) -> TrainDefaults:
        """1e-3 beside a frozen backbone, 1e-4 beside one that trains too."""
        return TrainDefaults(
            lr=TUNED_LR if options.train_backbone else FROZEN_LR, epochs=kind_spec(kind).epochs
        )

    @classmethod
    def tunes_backbone(cls, options: PTuningV1Options) -> bool:
        """True for `train_backbone: true`."""
        return options.train_backbone

    @classmethod
    def places(
        cls, options: PTuningV1Options, prompt_len: int | None, stacks: Mapping[Stack, int]
    ) -> str:
        """At the template's places."""
        return f"{prompt_len} vectors at the places of the template, out of an {options.encoder}"

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
        """Torch's own initial ranges, drawn from the trial's generator."""
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
