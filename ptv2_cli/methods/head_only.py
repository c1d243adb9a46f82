"""Head only: a linear probe on the frozen backbone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ptv2_cli.backbones.sites import Stack
from ptv2_cli.methods.base import Method, NoOptions, TrainDefaults, frozen_defaults

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
