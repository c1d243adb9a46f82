"""Whether a GGUF file can be converted: what its header tells, before a model is built."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import util
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptv2_cli.backbones.gguf.header import FETCH_AGAIN, OTHER_COPY, Header, read_header
from ptv2_cli.backbones.gguf.tokenizer import check_tokenizer
from ptv2_cli.errors import BackboneError

if TYPE_CHECKING:
    import torch

ARCHITECTURES = ("gpt2", "llama", "qwen2", "qwen3")
"""GGUF's names of the architectures that transformers reads exactly and that have a family here.

llama.cpp writes Mistral as llama. Tests compare each with the folder that it was written from.
"""
NEEDED = ("gguf", "accelerate")
"""Packages without which transformers reads no GGUF file."""
INSTALL = "pip install 'ptv2[gguf]'"
_F32, _F16 = 0, 1
_FACTORS = ("scaling.factor", "scale_linear")
"""Keys of the factor by which positions are scaled; 0 and 1 change nothing."""


def check_header(path: Path) -> Header:
    """The header of a file that can be converted, as far as its header tells.

    Raises:
        BackboneError: it is damaged, a part of a model, no model, or of an architecture that
            cannot be read.
    """
    header = read_header(path)
    _check_whole_model(path, header)
    architecture = header.text("general.architecture")
    if architecture not in ARCHITECTURES:
        raise BackboneError.at(
            str(path),
            f"has the architecture {architecture!r}, which ptv2 cannot read from GGUF files",
            f"it reads {', '.join(ARCHITECTURES)}; {OTHER_COPY}",
        )
    _check_positions(path, header, architecture)
    _check_layers(path, header, architecture)
    check_tokenizer(path, header)
    return header


def _check_whole_model(path: Path, header: Header) -> None:
    parts = header.metadata.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise BackboneError.at(
            str(path),
            f"is one of the {parts} parts of a split GGUF file",
            "join the parts first: llama-gguf-split --merge FIRST_PART.gguf WHOLE.gguf "
            "(llama.cpp has this command)",
        )
    kind = header.text("general.type") or "model"
    if kind != "model":
        what = f"holds no language model: its general.type is {kind!r}"
        raise BackboneError.at(str(path), what, "name the GGUF file of the model itself")
    if not header.tensors:
        raise BackboneError.at(str(path), "has no weights, only metadata", FETCH_AGAIN)


def _check_positions(path: Path, header: Header, architecture: str) -> None:
    """Check that positions are not scaled: transformers would drop that without a word."""
    scaling = header.text(f"{architecture}.rope.scaling.type")
    factors = (header.metadata.get(f"{architecture}.rope.{key}", 0) for key in _FACTORS)
    if not scaling and any(factor not in {0, 1} for factor in factors):
        scaling = "linear"  # older files give only a factor
    if scaling in {"", "none"} and not any(it.name == "rope_freqs.weight" for it in header.tensors):
        return
    raise BackboneError.at(
        str(path),
        f"scales its rotary positions ({scaling or 'rope_freqs.weight'}), which transformers does "
        "not read from GGUF files",
        OTHER_COPY,
    )


def _check_layers(path: Path, header: Header, architecture: str) -> None:
    """Check that the metadata counts the layers that are there: any number would be built."""
    stored = {it.name.split(".")[1] for it in header.tensors if it.name.startswith("blk.")}
    count = header.metadata.get(f"{architecture}.block_count")
    if count != len(stored):
        raise BackboneError.at(
            str(path),
            f"is damaged: it has tensors of {len(stored)} layers, and its metadata says {count}",
            FETCH_AGAIN,
        )


def check_packages(path: Path) -> None:
    """Check that what reads a GGUF file is installed.

    Raises:
        BackboneError: it is not.
    """
    absent = [name for name in NEEDED if not _installed(name)]
    if absent:
        what = f"is a GGUF file: reading it needs {' and '.join(absent)}, not installed here"
        raise BackboneError.at(str(path), what, INSTALL)


def _installed(name: str) -> bool:
    spec = util.find_spec(name)
    return spec is not None and spec.origin is not None  # a folder of that name has no origin


def held_type(path: Path, header: Header) -> torch.dtype:
    """The type in which the weights are kept, of a file whose types and sizes can be.

    Raises:
        BackboneError: a type cannot be dequantized, or the file ends too early.
    """
    import torch
    from gguf import GGMLQuantizationType as Quantization
    from gguf.constants import GGML_QUANT_SIZES

    held = {_F32: torch.float32, _F16: torch.float16}
    names = {item.value: item for item in Quantization}
    stored = {tensor.type_id for tensor in header.tensors}
    readable = _dequantized(names[it] for it in stored if it in names)
    matrices: set[torch.dtype] = set()
    for tensor in header.tensors:
        kind = names.get(tensor.type_id)
        if kind not in readable:
            raise BackboneError.at(
                str(path),
                f"stores {tensor.name} as {kind.name if kind else f'type {tensor.type_id}'}, which "
                "cannot be dequantized",
                f"use another quantization of the model, such as Q8_0 or Q4_K_M; or {OTHER_COPY}",
            )
        block, block_bytes = GGML_QUANT_SIZES[kind]
        end = tensor.offset + prod(tensor.shape) // block * block_bytes
        if tensor.shape[0] % block or end > header.file_bytes:
            raise BackboneError.at(
                str(path),
                f"is damaged or not whole: {tensor.name} would end at byte {end:,}, and the file "
                f"has {header.file_bytes:,} bytes",
                FETCH_AGAIN,
            )
        if len(tensor.shape) > 1:
            matrices.add(held.get(tensor.type_id, torch.bfloat16))
    order = (torch.bfloat16, torch.float16)
    return next((dtype for dtype in order if dtype in matrices), torch.float32)


def _dequantized(kinds: Iterable[Any]) -> set[Any]:
    """Those types that the package gguf turns into numbers; a block of zeros tells."""
    import numpy as np
    from gguf import dequantize
    from gguf.constants import GGML_QUANT_SIZES

    readable = set()
    for kind in kinds:
        try:
            dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8), kind)
        except (NotImplementedError, KeyError):
            continue
        readable.add(kind)
    return readable
