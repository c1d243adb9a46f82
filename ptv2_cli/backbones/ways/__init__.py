"""Ways in for families that transformers' attention registry does not reach, one file each."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from torch import nn

from ptv2_cli.backbones.families import Family
from ptv2_cli.backbones.slot import Slot


class Way(Protocol):
    """What a file of this folder has."""

    def configure(self, config: Any) -> None:
        """Change the model's config before the model is built."""

    def enter(self, model: nn.Module, slot: Slot) -> None:
        """Hook what prompts have to pass."""


def way_of(family: Family) -> Way:
    """The family's own way in, `registered` for those that need none."""
    way: Any = import_module(f"{__name__}.{family.way}")
    return way  # type: ignore[no-any-return]
