"""The modules of a model without their weights, from config.json alone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ptv2_cli.backbones.files.locate import Located
from ptv2_cli.backbones.model_code import AutoConfig, AutoModel
from ptv2_cli.backbones.quiet import quiet


def skeleton(located: Located, *, decodes: bool) -> nn.Module | None:
    """The model that a run would have, on the meta device; do not change it.

    None if transformers cannot build it from config.json alone: loading then says what is wrong.

    Args:
        located: the model's files.
        decodes: whether the head of an encoder-decoder reads its decoder.
    """
    if "auto_map" in located.config:  # the model's code runs only when the weights are loaded
        return None
    config = (located.folder / "config.json").read_bytes()
    return _built(located.folder, config, decodes)


@lru_cache(maxsize=4)
def _built(folder: Path, content: bytes, decodes: bool) -> nn.Module | None:
    """`content` is that of config.json, so that a changed file is another model."""
    try:
        with quiet(), torch.device("meta"), torch.random.fork_rng(devices=[]):
            model: Any = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    except Exception:  # of any type: each field of config.json has its own check
        return None
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # it is the head's
    if model.config.is_encoder_decoder and not decodes:
        model = model.get_encoder()
    built: nn.Module = model
    return built
