"""Families that transformers' attention registry reaches: nothing is to be done."""

from __future__ import annotations

from typing import Any

from torch import nn

from ptv2_cli.backbones.slot import Slot


def configure(config: Any) -> None:
    """Leave the config as it is."""


def enter(model: nn.Module, slot: Slot) -> None:
    """Leave the model as it is."""
