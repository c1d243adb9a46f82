"""Fine-tuning: the whole backbone trains, no prompts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ptv2_cli.backbones.sites import Stack
from ptv2_cli.kinds import kind_spec
from ptv2_cli.methods.base import Method, NoOptions, TrainDefaults, frozen_defaults


class Finetune(Method):
    """Trains every weight of the backbone, with warm-up and weight decay."""

    Options = NoOptions
    uses_prompt = False
    trains_backbone = True

    @classmethod
    def defaults(cls, kind: str, options: Any) -> TrainDefaults:
        """2e-5, warm-up over 6 % of the steps, weight decay 0.01, as BERT and RoBERTa report."""
        return TrainDefaults(lr=2e-5, epochs=kind_spec(kind).epochs, warmup=0.06, weight_decay=0.01)


LEARNING_RATES = {"sequence": 1e-3, "regression": 1e-3, "choice": 1e-3, "token": 1e-2, "span": 1e-3}


class HeadOnly(Method):
    """Trains nothing but the head."""

    Options = NoOptions
    uses_prompt = False
    lowest = sys.maxsize

    @classmethod
    def defaults(cls, kind: str, options: Any) -> TrainDefaults:
        """Our starting points: 1e-3, 1e-2 for tags."""
        return frozen_defaults(LEARNING_RATES, kind)

    @classmethod
    def unprompted(cls, options: Any, stacks: Mapping[Stack, int]) -> int:
        """All layers of the longest stack."""
        return max(stacks.values())


class NoMethod(Method):
    """Trains nothing: the backbone's own words answer (`head: verbalizer`), evaluated once.

    Discrete prompting, as in Brown et al. 2020 (arXiv 2005.14165).
    """

    Options = NoOptions
    uses_prompt = False
    trains = False

    @classmethod
    def defaults(cls, kind: str, options: Any) -> TrainDefaults:
        """None of them mean anything."""
        return TrainDefaults(lr=None, epochs=None, warmup=None, weight_decay=None)
