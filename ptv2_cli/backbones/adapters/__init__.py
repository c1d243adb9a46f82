"""Ways in for families that transformers' attention registry does not reach, one file each.

A file has `enter(model, slot)`, which hooks what prompts have to pass; one that needs another form
of the model also has `configure(config)`.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from torch import nn

from ptv2_cli.backbones.families import Family
from ptv2_cli.backbones.injection import Slot


def configure(family: Family, config: Any) -> None:
    """Change the model's config before the model is built, where the family's way wants it."""
    adapter = _adapter(family)
    if adapter is not None and hasattr(adapter, "configure"):
        adapter.configure(config)


def enter(family: Family, model: nn.Module, slot: Slot) -> None:
    """Let prompts in, where the registry does not."""
    adapter = _adapter(family)
    if adapter is not None:
        adapter.enter(model, slot)


def _adapter(family: Family) -> ModuleType | None:
    return import_module(f"{__name__}.{family.adapter}") if family.adapter else None
