"""`--from p-tuning-v2`: read a `pytorch_model.bin` of the reference repository.

The repository is THUDM/P-tuning-v2. Its prefix encoder is an embedding [P, L * 2 * H], or [P, H]
followed by two linear layers. A row of the output is `view(L * 2, N, D)`, keys and values layer by
layer, which is our layout too.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from ptv2_cli.errors import InputError
from ptv2_cli.interop.foreign import (
    Foreign,
    check_source,
    linear_head,
    read_tensors,
    weights_in,
)
from ptv2_cli.interop.stock_models import HEAD_NAMES

FILE = "pytorch_model.bin"
_PREFIX = "prefix_encoder."
_NETWORK = re.compile(r"trans\.([02])\.(weight|bias)")
_BODIES = ("bert.", "roberta.", "deberta.")
# Buffers that hold 0, 1, 2, ...: newer transformers do not save them.
_BUFFERS = re.compile(r"(^|\.)(position_ids|token_type_ids)$")
_OLD_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


def read_reference(folder: Path) -> Foreign:
    """Read prompt, head and the frozen backbone's tensors.

    Raises:
        InputError: the file is not a checkpoint with a prefix, is damaged, or would run code.
    """
    file = weights_in(folder, [FILE])
    tensors = read_tensors(file)
    source: dict[str, Tensor] = {}
    backbone: dict[str, Tensor] = {}
    heads: dict[str, dict[str, Tensor]] = {}
    others: list[str] = []
    for name, tensor in tensors.items():
        body = next((body for body in _BODIES if name.startswith(body)), None)
        part, _, rest = name.partition(".")
        if name.startswith(_PREFIX):
            source[_renamed(file, name.removeprefix(_PREFIX))] = tensor
        elif body is not None and not _BUFFERS.search(name):
            backbone[_modern(name.removeprefix(body))] = tensor
        elif part in HEAD_NAMES:
            heads.setdefault(part, {})[rest] = tensor
        elif body is None:
            others.append(name)
    _check(file, source, tensors)
    head, layer, notes = linear_head(heads)
    if others and head is not None:  # DeBERTa's classes have a network of their own before it
        note = f"its head reads the output of {others[0]}, which ours does not have: it is left out"
        head, notes = None, (*notes, note)
    kinds = {"span"} if layer == "qa_outputs" else {"sequence", "regression", "token"}
    return Foreign(
        program="p-tuning-v2",
        file=file,
        source=source,
        head=head,
        kinds=None if layer is None else frozenset(kinds),
        pooling="pooler",
        backbone=backbone,
        notes=notes,
    )


def _check(file: Path, source: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    if "prompt" not in source:
        some = ", ".join(sorted(tensors)[:3])
        raise InputError.at(
            str(file),
            f"has no prefix_encoder.embedding.weight; it has {some}",
            "only a run of the repository with --prefix has one",
        )
    check_source(file, source)


def _renamed(file: Path, name: str) -> str:
    """Our name for a tensor of the reference's prefix encoder."""
    match = _NETWORK.fullmatch(name)
    if name == "embedding.weight":
        return "prompt"
    if match:
        return f"network.{match[1]}.{match[2]}"
    raise InputError.at(
        str(file), f"has an unknown prefix_encoder.{name}", "is it from the reference repository?"
    )


def _modern(name: str) -> str:
    for old, new in _OLD_NAMES:
        name = name.replace(old, new)
    return name
