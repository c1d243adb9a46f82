"""The words of the vocabulary that lie nearest to each prompt vector among the word embeddings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ptv2_cli.backbones.language.lm_head import Vocabulary
from ptv2_cli.rng import generator

NEAREST = 5
"""Words that are named for each position."""
SAMPLE = 1000
"""Words whose own nearest word says what is near in this vocabulary."""
ROWS = 16384
"""Rows of the embedding table that are compared at once."""
SPACE = "▁"
"""Stands for the space before a word, as in SentencePiece."""


@dataclass(frozen=True)
class Word:
    """A word of the vocabulary near a vector."""

    id: int
    token: str
    """As the tokenizer's files have it."""
    text: str
    """As a person reads it, see `readable`."""
    cosine: float


@dataclass(frozen=True)
class Position:
    """A prompt vector and the words nearest to it."""

    norm: float
    words: tuple[Word, ...]
    """Nearest first."""
    farther_than: float
    """Share of the words that have a nearer neighbour than this vector has."""


@dataclass(frozen=True)
class NearestWords:
    """The prompt vectors of a run among the words of its backbone."""

    positions: tuple[Position, ...]
    word_norm: float
    """The median norm of a word's vector."""
    word_cosine: float
    """The median over words of the cosine between a word and the word nearest to it."""
    sample: int
    """Words that the two medians are over."""


def nearest_words(vectors: Tensor, table: Tensor, tokenizer: Any, seed: int = 0) -> NearestWords:
    """Compare prompt vectors [P, E] with the word embeddings [V, E] by the cosine.

    Rows of the table without a token are left out. Which words are sampled comes from the seed.
    """
    known = sorted(set(tokenizer.get_vocab().values()))
    candidates = torch.tensor([number for number in known if number < len(table)])
    words = torch.tensor([n for n in Vocabulary(tokenizer).words if n < len(table)])
    if len(words) > SAMPLE:
        drawn = torch.randperm(len(words), generator=generator(seed, "inspect/words"))[:SAMPLE]
        words = words[drawn]
    with torch.no_grad():
        table, vectors = table.detach().cpu(), vectors.detach().cpu().float()
        sample = table[words].float()
        near = _nearest(_units(vectors), table, candidates, NEAREST)
        # The nearest word of a word is the second: the first is the word itself.
        of_words = _nearest(_units(sample), table, candidates, 1, leaving=words)[0][:, 0]
        norms = sample.norm(dim=1)
    byte_level = uses_bytes(tokenizer)
    positions = []
    for vector, cosines, ids in zip(vectors, *near, strict=True):
        tokens = tokenizer.convert_ids_to_tokens(ids.tolist())
        named = tuple(
            Word(number, token, readable(token, byte_level), cosine)
            for number, token, cosine in zip(ids.tolist(), tokens, cosines.tolist(), strict=True)
        )
        farther = float((of_words > cosines[0]).float().mean())
        positions.append(Position(float(vector.norm()), named, farther))
    return NearestWords(
        tuple(positions), float(norms.median()), float(of_words.median()), len(words)
    )


def _nearest(
    units: Tensor, table: Tensor, candidates: Tensor, count: int, leaving: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The greatest cosines and their ids, each [n, count]; the table is read part by part.

    Args:
        units: vectors of norm 1 [n, E].
        table: [V, E].
        candidates: ids that may be named, ascending.
        count: how many.
        leaving: for each vector an id that is not named [n].
    """
    best = torch.empty(len(units), 0)
    ids = torch.empty(len(units), 0, dtype=torch.int64)
    for some in torch.split(candidates, ROWS):
        cosines = units @ _units(table[some].float()).T
        if leaving is not None:
            cosines = cosines.masked_fill(leaving[:, None] == some, -2.0)
        best = torch.cat([best, cosines], dim=1)
        ids = torch.cat([ids, some.expand(len(units), -1)], dim=1)
        best, at = best.topk(min(count, best.shape[1]), dim=1)
        ids = ids.gather(1, at)
    return best, ids


def _units(vectors: Tensor) -> Tensor:
    """Vectors of norm 1; zero stays zero."""
    return torch.nn.functional.normalize(vectors, dim=1)


def uses_bytes(tokenizer: Any) -> bool:
    """Whether the tokenizer's tokens spell bytes as letters (byte-level BPE)."""
    return "ByteLevel" in str(tokenizer.backend_tokenizer.decoder)


def readable(token: str, byte_level: bool) -> str:
    """A token as a person reads it: SPACE for a space before it, hex for bytes of no character."""
    if byte_level and all(letter in _bytes() for letter in token):
        data = bytes(_bytes()[letter] for letter in token)
        try:
            token = data.decode()
        except UnicodeDecodeError:
            return f"<{data.hex(' ').upper()}>"
    return re.sub("^ ", SPACE, token)


@cache
def _bytes() -> dict[str, int]:
    """Letter -> byte, in the alphabet of byte-level BPE (Radford et al. 2019).

    Bytes that print stand for themselves, the others for letters from U+0100 on, in order.
    """
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    letters = {chr(byte): byte for byte in printed}
    return letters | {chr(256 + at): byte for at, byte in enumerate(others)}
