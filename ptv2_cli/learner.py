"""Learner: backbone, method and head as the one module that the loop sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
from ptv2_cli.backbones.sites import Prompts, TextBatch
from ptv2_cli.heads.base import Head, LabelledBatch, MultiHead, Output
from ptv2_cli.methods.base import Method


class LearnerBatch(TextBatch, LabelledBatch, Protocol):
    """What a learner reads of a batch."""


class Learner(nn.Module):
    """forward(batch) -> Output(loss, predictions)."""

    def __init__(self, backbone: Backbone, method: Method, head: Head | MultiHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.method = method
        self.head = head
        if method.trains_backbone:
            backbone.requires_grad_(True)

    def forward(self, batch: LearnerBatch, lower: LowerStates | None = None) -> Output:
        """Loss over the batch's targets and predictions of every row.

        `lower` keeps the outputs of layers below the lowest prompt.
        """
        output: Output = self.head(states(self.backbone, batch, self.prompts(), lower), batch)
        return output

    def prompts(self) -> Prompts:
        """The method's prompts, made in fp32; attention casts them to what it computes in."""
        with torch.autocast(self.backbone.word_embeddings.device.type, enabled=False):
            prompts: Prompts = self.method()
        return prompts

    def own_state(self) -> dict[str, Tensor]:
        """All tensors that the run's logits need and the backbone's files lack."""
        state = self.state_dict()
        if getattr(self.head, "borrowed", False):
            state = {k: v for k, v in state.items() if not k.startswith("head.")}
        if self.method.trains_backbone:
            return _without_shared(state)
        new = {f"backbone.{name}" for name in self.backbone.untrained}
        return {
            name: tensor
            for name, tensor in state.items()
            if name in new or not name.startswith("backbone.")
        }

    def own_parameters(self, part: str) -> Iterator[nn.Parameter]:
        """Trainable parameters of `method`, `head` or `backbone`."""
        module: nn.Module = getattr(self, part)
        others = {"method": set[int](), "head": self._of_backbone, "backbone": self._of_method}
        return (
            parameter
            for parameter in module.parameters()
            if parameter.requires_grad and id(parameter) not in others[part]
        )

    @property
    def _of_backbone(self) -> set[int]:
        """The ids of the backbone's parameters; a language-model head may share some."""
        return {id(parameter) for parameter in self.backbone.parameters()}

    @property
    def _of_method(self) -> set[int]:
        """The ids of the method's parameters, which may stand in the backbone's layers."""
        return {id(parameter) for parameter in self.method.parameters()}

    def counts(self) -> dict[str, float]:
        """Parameters by part; `trainable_percent` and `prompt_percent` as DESIGN defines them."""
        shared, trained = self._of_backbone, self._of_method
        backbone = sum(own.numel() for own in self.backbone.parameters() if id(own) not in trained)
        head = sum(own.numel() for own in self.head.parameters() if id(own) not in shared)
        parts = {"prompt": 0, "reparam": 0, "adapter": 0, **self.method.counts()}
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return {
            **parts,
            "head": head,
            "backbone": backbone,
            "trainable": trainable,
            "trainable_percent": 100 * trainable / (backbone + head + sum(parts.values())),
            "prompt_percent": 100 * parts["prompt"] / backbone,
        }


def states(
    backbone: Backbone, batch: TextBatch, prompts: Prompts, lower: LowerStates | None
) -> Tensor:
    """Hidden states of the batch's tokens, with what `lower` keeps of the lower layers."""
    hidden: Tensor = (
        backbone(batch, prompts) if lower is None else lower.hidden(backbone, batch, prompts)
    )
    return hidden


def _without_shared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor once: an encoder-decoder's word embeddings have three names.

    A weight that processes share is a wrapper without an address, and has one name.
    """
    seen: set[tuple[int, torch.Size]] = set()
    unique: dict[str, Tensor] = {}
    for name, tensor in state.items():
        memory = (tensor.data_ptr(), tensor.shape)
        if not tensor.numel() or not tensor.data_ptr() or memory not in seen:
            unique[name] = tensor
            seen.add(memory)
    return unique
