"""The model code of transformers, imported without a search for garbage: import it from here.

It takes most of the time that a command needs to start. Two packages that transformers would import
for models of other kinds are left out: a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from transformers import utils
from transformers.utils import import_utils

from ptv2_cli.importing import uncollected

_UNUSED = ("is_scipy_available", "is_torchao_available")
"""Whether transformers imports scipy, for the losses of object detection, and torchao, to save what
torchao quantized. Neither is done here; `quantize` imports torchao itself."""


@contextmanager
def deferred() -> Iterator[None]:
    """Let transformers take these packages as absent inside, and find them again afterwards."""
    importing = True

    def absent_meanwhile(plain: Callable[..., bool]) -> Callable[..., bool]:
        @wraps(plain)
        def available(*arguments: Any) -> bool:
            return not importing and plain(*arguments)

        return available

    plain = {name: getattr(utils, name) for name in _UNUSED}
    try:
        for name, function in plain.items():
            for module in (utils, import_utils):
                setattr(module, name, absent_meanwhile(function))
        yield
    finally:
        importing = False
        for name, function in plain.items():
            for module in (utils, import_utils):
                setattr(module, name, function)


with uncollected(), deferred():
    from transformers import (
        AttentionInterface,
        AttentionMaskInterface,
        AutoConfig,
        AutoModel,
    )
    from transformers.initialization import no_init_weights
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask
    from transformers.modeling_layers import GradientCheckpointingLayer

__all__ = [
    "AttentionInterface",
    "AttentionMaskInterface",
    "AutoConfig",
    "AutoModel",
    "GradientCheckpointingLayer",
    "no_init_weights",
    "sdpa_attention_forward",
    "sdpa_mask",
]
