"""The type in which frozen weights are held."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

if TYPE_CHECKING:
    from ptv2_cli.config.schema import BackboneSection

Held = Literal["fp32", "bf16", "fp16"]

DTYPES: dict[Held, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_NAMES: dict[str, Held] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def held_dtype(section: BackboneSection, config: Mapping[str, Any]) -> Held:
    """What `backbone.dtype` means for a model whose parsed config.json is `config`.

    `auto` is the type that config.json names, fp32 if it names none that weights are held in.
    """
    if section.dtype != "auto":
        return section.dtype
    named = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
    return _NAMES.get(named, "fp32")


def give_back(module: nn.Module) -> None:
    """Give the system the memory of weights that have been replaced.

    What is left may be a view of the whole mapped file, and what was freed may stay with the C
    library: after quantizing, the two together came to more than the weights before it.
    """
    for parameter in module.parameters():
        if type(parameter.data) is torch.Tensor:
            parameter.data = parameter.data.clone()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def keep_fp32(module: nn.Module | None) -> None:
    """Hold `module` in fp32 whatever the rest is held in: it may train, or feeds what does."""
    if module is not None:
        module.float()
