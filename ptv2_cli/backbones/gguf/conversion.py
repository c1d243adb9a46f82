"""Convert a GGUF file into a folder that transformers loads: weights, config.json, tokenizer.

All weights get one type: bf16 if any matrix is quantized, else that of the file's matrices.
Whatever transformers would leave out or replace without a word is an error.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import redirect_stderr
from io import StringIO
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptv2_cli.backbones.gguf.checks import held_type
from ptv2_cli.backbones.gguf.header import FETCH_AGAIN, OTHER_COPY, Header
from ptv2_cli.backbones.gguf.tokenizer import set_word_cuts
from ptv2_cli.errors import BackboneError, out_of_memory

if TYPE_CHECKING:
    import torch

_SOURCE = "model.gguf"


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

    dtype = held_type(path, header)
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
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            set_word_cuts(path, header, tokenizer)
            model, report = AutoModelForCausalLM.from_pretrained(
                source,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # the report has them
                **options,
            )
    except BackboneError:
        raise
    except Exception as error:  # of any type: damaged files fail in many places
        if out_of_memory(error):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        what = f"cannot be converted: {first or type(error).__name__}"
        raise BackboneError.at(str(path), what, f"{FETCH_AGAIN}; or {OTHER_COPY}") from error
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
            f"{FETCH_AGAIN}; or {OTHER_COPY}",
        )


def _link(path: Path, link: Path) -> None:
    try:
        link.symlink_to(path)
    except OSError:  # Windows allows links only to some users
        shutil.copyfile(path, link)


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
            f"{FETCH_AGAIN}; or {OTHER_COPY}",
        )
    missing = sorted(name for name in report["missing_keys"] if name in weights)
    if missing:
        raise BackboneError.at(
            str(path),
            f"lacks {len(missing)} tensors that the model needs, such as {missing[0]}",
            f"{FETCH_AGAIN}; or {OTHER_COPY}",
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
