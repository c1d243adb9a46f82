"""The tokenizer of a GGUF file, where transformers would make another one without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptv2_cli.backbones.gguf.header import OTHER_COPY, Header
from ptv2_cli.errors import BackboneError

_GPT2 = "gpt-2"
_DIGITS = ("refact", "smollm", "starcoder")
"""Names that llama.cpp gives to GPT-2's cuts with every digit by itself."""


def check_tokenizer(path: Path, header: Header) -> None:
    """Check that the file has a tokenizer, and one whose spaces transformers reads as they are.

    Raises:
        BackboneError: it has none, or one that puts no space before a text.
    """
    model = header.text("tokenizer.ggml.model")
    if not model:
        raise BackboneError.at(str(path), "has no tokenizer in its metadata", OTHER_COPY)
    if model == "llama" and header.metadata.get("tokenizer.ggml.add_space_prefix") is False:
        what = "has a tokenizer that puts no space before a text; transformers would put one there"
        raise BackboneError.at(str(path), what, OTHER_COPY)


def set_word_cuts(path: Path, header: Header, tokenizer: Any) -> None:
    """Make a byte-level tokenizer cut texts into words as its file says, before it merges bytes.

    transformers knows some ways to cut by their names. For all other names it takes GPT-2's.

    Raises:
        BackboneError: the file names a way that neither knows, or none.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    backend = tokenizer.backend_tokenizer
    if header.text("tokenizer.ggml.model") != "gpt2":
        return
    if not isinstance(backend.pre_tokenizer, ByteLevel):
        return  # transformers knows the name
    name = header.text("tokenizer.ggml.pre")
    if name in {"", "default"} and header.text("general.architecture") == "gpt2":
        name = _GPT2  # older files name nothing
    if name in _DIGITS:
        cuts = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        backend.pre_tokenizer = Sequence(cuts)
    elif name != _GPT2:
        what = f"cuts texts into words in a way that ptv2 does not know: {name!r}"
        if name in {"", "default"}:
            what = "does not say how its tokenizer cuts texts into words"
        raise BackboneError.at(str(path), f"{what} (tokenizer.ggml.pre)", OTHER_COPY)
