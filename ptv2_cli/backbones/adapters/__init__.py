"""Prompts for families that do not use transformers' attention registry, one file each.

A file has `enter(model, injection)`, which hooks the modules that prompts must pass. A file whose
family needs another form of the model also has `configure(config)`.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from torch import nn

from ptv2_cli.backbones.families import Family
from ptv2_cli.backbones.injection import Injection


def configure(family: Family, config: Any) -> None:
    """Change the model's config before the model is built, if the family's adapter needs it."""
    adapter = _adapter(family)
    if adapter is not None and hasattr(adapter, "configure"):
        adapter.configure(config)


def enter(family: Family, model: nn.Module, injection: Injection) -> None:
    """Hook the model, if its family has an adapter."""
    adapter = _adapter(family)
    if adapter is not None:
        adapter.enter(model, injection)


def _adapter(family: Family) -> ModuleType | None:
    return import_module(f"{__name__}.{family.adapter}") if family.adapter else None
