"""Methods without prompts: fine-tuning, the head alone, and no training at all."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ptv2_cli.kinds import KindSpec
from ptv2_cli.methods.spec import MethodSpec, TrainDefaults, frozen_defaults

if TYPE_CHECKING:
    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method

LEARNING_RATES = {"sequence": 1e-3, "regression": 1e-3, "choice": 1e-3, "token": 1e-2, "span": 1e-3}


class NoPrompt(MethodSpec):
    """A method without a prompt."""

    uses_prompt: ClassVar[bool] = False

    def build(self, context: Context) -> Method:
        """A module without values."""
        from ptv2_cli.methods.base import Method

        return Method(trains_backbone=self.trains_backbone)


class Finetune(NoPrompt):
    """Trains every weight of the backbone, with warm-up and weight decay."""

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """2e-5, warm-up over 6 % of the steps, weight decay 0.01, as BERT and RoBERTa report."""
        return TrainDefaults(lr=2e-5, epochs=kind.epochs, warmup=0.06, weight_decay=0.01)

    @property
    def trains_backbone(self) -> bool:
        """Always."""
        return True


class HeadOnly(NoPrompt):
    """Trains only the head."""

    adds: ClassVar[bool] = False

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """Our starting points: 1e-3, 1e-2 for tags."""
        return frozen_defaults(LEARNING_RATES, kind)

    def build(self, context: Context) -> Method:
        """A module without values; the outputs of all layers stay the same during training."""
        method = super().build(context)
        method.lowest = sys.maxsize
        return method

    def unprompted_layers(self, stacks: Mapping[Stack, int]) -> int:
        """All layers of the longest stack."""
        return max(stacks.values())


class NoMethod(NoPrompt):
    """Trains nothing; the run evaluates the backbone's language-model head once.

    The head answers in words (`head: verbalizer`) or writes texts, as in Brown et al. 2020 (arXiv
    2005.14165).
    """

    trains: ClassVar[bool] = False
    adds: ClassVar[bool] = False

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """None: nothing trains."""
        return TrainDefaults(lr=None, epochs=None, warmup=None, weight_decay=None)
