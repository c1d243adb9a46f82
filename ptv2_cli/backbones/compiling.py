"""Compile the layers of a backbone with torch.compile (`train.compile`).

A layer is compiled in parts. Attention, and what a method makes of a module's output, stay plain
calls between them: they read the prompts of the present forward pass, which compiled code could
not do. Layers of equal shape
share the compiled code, which serves batches of all lengths.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache, partial
from importlib import util
from types import MethodType
from typing import Any

import torch
from torch import nn

from ptv2_cli.backbones.attention import NAME, prompted_attention
from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.layer_split import layers_with_sites
from ptv2_cli.backbones.model_code import AttentionInterface, GradientCheckpointingLayer
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import ConfigError

VARIANTS = 64
"""Most versions of a layer's code: with and without a gradient of its input, training or not, a
mask or none, one row or several; for each kind of layer."""


def check_compiler(config: RunConfig, device: torch.device) -> None:
    """Check that this machine can compile what the config asks for; reads no weights.

    Raises:
        ConfigError: there is no compiler, or on a CPU the backbone draws dropout.
    """
    if not config.train.compile:
        return
    where, without = "train.compile", "--set train.compile=false"
    if device.type == "cpu" and config.backbone.dropout != "off":
        raise ConfigError.at(
            where,
            "on a CPU the backbone's dropout belongs to the run's seed, and compiled layers cannot "
            "draw it",
            f"add backbone: {{name: ..., dropout: off}}, or {without}",
        )
    if device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        what = "on a CPU it needs a C++ compiler, and there is no g++"
        raise ConfigError.at(where, what, f"install g++, set CXX to another compiler, or {without}")
    if device.type == "cuda" and util.find_spec("triton") is None:
        what = "on a GPU it needs triton, which is not installed"
        raise ConfigError.at(where, what, f"pip install triton, or {without}")


def compile_layers(backbone: Backbone, backend: str = "inductor") -> None:
    """Compile every layer that has a site; nothing happens to layers that are compiled already.

    Compilation itself takes place in the first forward and backward passes.
    """
    AttentionInterface.register(NAME, _uncompiled_attention())
    backbone.injection.edits.wrap = _uncompiled_hook
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, VARIANTS)
    options: dict[str, Any] = {}
    if backend == "inductor":
        # Otherwise kernels are chosen by their measured time, and equal runs differ in their bits.
        options["options"] = {"deterministic": True}
    for layer in layers_with_sites(backbone.model):
        if "forward" not in vars(layer):
            compiled = partial(torch.compile, dynamic=True, backend=backend, **options)
            layer.forward = _compiled_forward(layer, compiled)


def _compiled_forward(layer: nn.Module, compiled: Callable[[Any], Any]) -> Callable[..., Any]:
    """The layer's compiled forward; where activations are recomputed, what is inside of that."""
    recomputes = getattr(layer, "gradient_checkpointing", False)
    if not (recomputes and isinstance(layer, GradientCheckpointingLayer)):
        return compiled(layer.forward)  # type: ignore[no-any-return]
    # transformers wraps each class's forward, which then calls torch's checkpoint.
    inside = compiled(MethodType(type(layer).forward.__wrapped__, layer))

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not layer.training:
            return inside(*args, **kwargs)
        return layer._gradient_checkpointing_func(partial(inside, **kwargs), *args)

    return forward


@cache
def _uncompiled_attention() -> Any:
    return torch.compiler.disable(prompted_attention)  # type: ignore[no-untyped-call]


def _uncompiled_hook(hook: Any) -> Any:
    """A hook that compiled layers call, also those that were compiled before it came."""
    torch._dynamo.reset()
    return torch.compiler.disable(hook)  # type: ignore[no-untyped-call]
