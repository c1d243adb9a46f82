"""Convert a GGUF file into a folder that transformers loads: weights, config.json, tokenizer.

Quantized weights are dequantized, and held in the type in which the file has its other matrices,
or in bf16. Whatever transformers would leave out or replace without a word is an error.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import redirect_stderr
from importlib import util
from io import StringIO
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptv2_cli.backbones.gguf_header import FETCH_AGAIN, Header, read_header
from ptv2_cli.errors import BackboneError, out_of_memory

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
_OTHER_COPY = "use a folder with the model in safetensors: backbone: FOLDER or a hub id"
_SOURCE = "model.gguf"


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
            f"it reads {', '.join(ARCHITECTURES)}; {_OTHER_COPY}",
        )
    _check_positions(path, header, architecture)
    _check_layers(path, header, architecture)
    if not header.text("tokenizer.ggml.model"):
        raise BackboneError.at(str(path), "has no tokenizer in its metadata", _OTHER_COPY)
    return header


def _check_whole_model(path: Path, header: Header) -> None:
    parts = header.metadata.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        number = header.metadata.get("split.no", 0) + 1
        raise BackboneError.at(
            str(path),
            f"is part {number} of {parts} of a split GGUF file",
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
    if scaling in {"", "none"} and not any(it.name == "rope_freqs.weight" for it in header.tensors):
        return
    raise BackboneError.at(
        str(path),
        f"scales its rotary positions ({scaling or 'rope_freqs.weight'}), which transformers does "
        "not read from GGUF files",
        _OTHER_COPY,
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


def convert(path: Path, header: Header, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file into an empty folder.

    Args:
        path: the file.
        header: what `check_header` gave for it.
        folder: gets model.safetensors, config.json and the files of the tokenizer.

    Raises:
        BackboneError: the file cannot be read.
        OSError: the folder cannot be written.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from ptv2_cli.backbones.quiet import quiet

    dtype = _check_tensors(path, header)
    source = folder / ".source"
    source.mkdir()
    # Alone in a folder: transformers would also read a tokenizer or an adapter beside the file.
    _link(path, source / _SOURCE)
    options: dict[str, Any] = {"gguf_file": _SOURCE, "local_files_only": True}
    try:
        # Building the model draws from the global generator, whose state must not change.
        # Standard error gets a progress bar that no setting turns off.
        with quiet(), redirect_stderr(StringIO()), torch.random.fork_rng(devices=[]):
            config = AutoConfig.from_pretrained(source, **options)
            _check_size(path, header, config)
            model, report = AutoModelForCausalLM.from_pretrained(
                source,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # the report has them
                **options,
            )
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except BackboneError:
        raise
    except Exception as error:  # of any type: damaged files fail in many places
        if out_of_memory(error):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        what = f"cannot be converted: {first or type(error).__name__}"
        raise BackboneError.at(str(path), what, f"{FETCH_AGAIN}; or {_OTHER_COPY}") from error
    weights = _weights(model)
    _check_complete(path, weights, report)
    config.architectures = [type(model).__name__]
    config.dtype = dtype
    with quiet():
        _save(weights, folder / "model.safetensors")
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    shutil.rmtree(source)


def _check_size(path: Path, header: Header, config: Any) -> None:
    """Check that the model of the metadata is as large as the tensors, before it takes memory.

    transformers would draw what the file lacks, and leave out what its model lacks.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    wanted = sum(value.numel() for value in _weights(model).values())
    stored = sum(prod(tensor.shape) for tensor in header.tensors)
    if stored != wanted:
        raise BackboneError.at(
            str(path),
            f"does not fit together: its tensors have {stored:,} values, and transformers' model "
            f"of its metadata has {wanted:,}",
            f"{FETCH_AGAIN}; or {_OTHER_COPY}",
        )


def _link(path: Path, link: Path) -> None:
    try:
        link.symlink_to(path)
    except OSError:  # Windows allows links only to some users
        shutil.copyfile(path, link)


def _check_tensors(path: Path, header: Header) -> torch.dtype:
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
                f"use another quantization of the model, such as Q8_0 or Q4_K_M; or {_OTHER_COPY}",
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


def _weights(model: Any) -> dict[str, torch.Tensor]:
    """The tensors of a model by name; tied ones once."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    return {
        name: value.contiguous() for name, value in model.state_dict().items() if name not in tied
    }


def _check_complete(path: Path, weights: dict[str, torch.Tensor], report: dict[str, Any]) -> None:
    """Check that the model has all its weights from the file, and that they are numbers.

    Args:
        path: the file.
        weights: what transformers made of them, under its own names.
        report: its report of what it drew at random instead.
    """
    for name, stored, wanted in sorted(report["mismatched_keys"]):
        raise BackboneError.at(
            str(path),
            f"has the shape {tuple(stored)} for {name}, and its metadata says {tuple(wanted)}",
            f"{FETCH_AGAIN}; or {_OTHER_COPY}",
        )
    missing = sorted(name for name in report["missing_keys"] if name in weights)
    if missing:
        raise BackboneError.at(
            str(path),
            f"lacks {len(missing)} tensors that the model needs, such as {missing[0]}",
            f"{FETCH_AGAIN}; or {_OTHER_COPY}",
        )
    broken = next((name for name, value in weights.items() if not value.isfinite().all()), None)
    if broken is not None:
        what = f"is damaged: {broken} has values that are infinite or no numbers"
        raise BackboneError.at(str(path), what, FETCH_AGAIN)


def _save(weights: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(weights, path, metadata={"format": "pt"})
    except SafetensorError as error:  # so it reports a disk that is full or fails
        code = errno.ENOSPC if "os error 28" in str(error) else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error
