"""Layouts: what surrounds the text of an input - special tokens, prompt vectors, words, a mask.

One call shows a tokenizer's own layout ([CLS] a [SEP] b [SEP]), so that no family needs a case of
its own. A template's layout begins and ends with the same special tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.ragged import Ragged, bounds, places
from ptv2_cli.inputs.template import WHERE, Column, Literal, Prompt, Template


@dataclass(frozen=True)
class Fixed:
    """Tokens that every input has here, with their token types."""

    ids: tuple[int, ...]
    types: tuple[int, ...]


@dataclass(frozen=True)
class TextPart:
    """The text of a column. `spaced`: it is tokenized as following a space."""

    name: str
    type_id: int
    spaced: bool


@dataclass(frozen=True)
class MaskToken:
    """The tokenizer's mask token."""

    id: int


@dataclass(frozen=True)
class Ahead:
    """Where a causal model predicts a token: the head reads the position before."""


@dataclass(frozen=True)
class Shown:
    """Demonstrations, whose tokens differ from row to row."""


Part = Fixed | TextPart | Prompt | MaskToken | Ahead | Shown


@dataclass(frozen=True)
class Built:
    """R assembled inputs with N positions in all."""

    ids: Ragged
    """The token ids of each input."""
    types: npt.NDArray[np.uint8] | None
    """[N]; None: the model takes none."""
    slots: npt.NDArray[np.int32] | None
    """[N]: the prompt vector at each position, -1 for text; None: no prompt among them."""
    mask_at: npt.NDArray[np.int32] | None
    """[R]"""
    starts: dict[str, npt.NDArray[np.int64]]
    """Where each column's first token is among all positions [R]."""
    cls_at: npt.NDArray[np.int32]
    """[R]: the position that represents the whole input: [CLS], else the first text token, or the
    last token of a closed layout."""


@dataclass(frozen=True)
class Layout:
    """An ordered list of parts, and how to fill them."""

    parts: tuple[Part, ...]
    pad_id: int
    cls_id: int | None
    typed: bool
    """Whether the model takes token_type_ids."""
    whole_at_end: bool = False
    """Only the last token sees the whole input, as in a causal model."""

    @property
    def texts(self) -> tuple[TextPart, ...]:
        """The columns' texts, in input order."""
        return tuple(part for part in self.parts if isinstance(part, TextPart))

    @property
    def overhead(self) -> int:
        """Tokens that are no column's text; prompt vectors do not count towards max_len."""
        fixed = sum(len(part.ids) for part in self.parts if isinstance(part, Fixed))
        return fixed + sum(isinstance(part, MaskToken) for part in self.parts)

    def closed(self, end_id: int) -> Layout:
        """The same layout, read at its last token; `end_id` is added if it ends in text."""
        last = self.parts[-1] if self.parts else None
        ends = isinstance(last, Fixed) and bool(last.ids)
        parts = self.parts if ends else (*self.parts, Fixed((end_id,), (0,)))
        return replace(self, parts=parts, whole_at_end=True)

    def build(self, texts: Mapping[str, Ragged], shown: Ragged | None = None) -> Built:
        """R inputs with these token ids of every column and, if it shows them, demonstrations."""
        count = len(next(iter(texts.values())))
        shown = Ragged.empty_lists(count) if shown is None else shown
        sizes = [self._size(part, texts, shown) for part in self.parts]
        starts = bounds(np.sum([np.broadcast_to(size, count) for size in sizes], axis=0))
        ids = np.empty(int(starts[-1]), np.int32)
        types = np.zeros(len(ids), np.uint8) if self.typed else None
        prompted = any(isinstance(part, Prompt) for part in self.parts)
        slots = np.full(len(ids), -1, np.int32) if prompted else None
        column_starts: dict[str, npt.NDArray[np.int64]] = {}
        mask_at = None
        at = starts[:-1]
        for part, size in zip(self.parts, sizes, strict=True):
            match part:
                case Prompt():
                    where = at[:, None] + np.arange(part.size)
                    assert slots is not None
                    ids[where], slots[where] = self.pad_id, np.array(part.indices)
                case Fixed():
                    where = at[:, None] + np.arange(len(part.ids))
                    ids[where] = np.array(part.ids, np.int32)
                    if types is not None:
                        types[where] = np.array(part.types, np.uint8)
                case TextPart() | Shown():
                    text = texts[part.name] if isinstance(part, TextPart) else shown
                    where = places(at, text.lengths)
                    ids[where] = text.values
                    if isinstance(part, TextPart):
                        column_starts[part.name] = at
                        if types is not None and part.type_id:
                            types[where] = part.type_id
                case MaskToken():
                    mask_at = (at - starts[:-1]).astype(np.int32)
                    ids[at] = part.id
                case Ahead():
                    mask_at = np.maximum(at - starts[:-1] - 1, 0).astype(np.int32)
            at = at + size
        cls_at = self._cls_at(ids, starts, slots)
        return Built(Ragged(ids, starts), types, slots, mask_at, column_starts, cls_at)

    def _size(
        self, part: Part, texts: Mapping[str, Ragged], shown: Ragged
    ) -> int | npt.NDArray[np.int64]:
        """Positions that a part takes: as many in every input, or [R]."""
        match part:
            case Prompt():
                return part.size
            case Fixed():
                return len(part.ids)
            case TextPart():
                return texts[part.name].lengths
            case Shown():
                return shown.lengths
        return int(isinstance(part, MaskToken))

    def _cls_at(
        self,
        ids: npt.NDArray[np.int32],
        starts: npt.NDArray[np.int64],
        slots: npt.NDArray[np.int32] | None,
    ) -> npt.NDArray[np.int32]:
        text = np.ones(len(ids), np.bool_) if slots is None else slots < 0
        if self.whole_at_end:
            where = np.flatnonzero(text)
            last = where[np.searchsorted(where, starts[1:]) - 1]
            return (last - starts[:-1]).astype(np.int32)
        found = _first(text, starts)
        if self.cls_id is not None:
            cls = _first(text & (ids == self.cls_id), starts)
            found = np.where(cls >= 0, cls, found)
        return np.maximum(found, 0).astype(np.int32)


def _first(wanted: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first wanted position of each input [R], -1 where it has none."""
    where = np.append(np.flatnonzero(wanted), len(wanted))
    first = where[np.searchsorted(where[:-1], starts[:-1])]
    return np.where(first < starts[1:], first - starts[:-1], -1)


def tokenizer_layout(tokenizer: Any, columns: Sequence[str], **common: Any) -> Layout:
    """The tokenizer's own layout for one column or a pair.

    If a tokenizer puts nothing between the two texts of a pair (GPT-2), the second is tokenized
    as following a space, so that two words do not become one.
    """
    texts = ["a", "b"][: len(columns)]
    sample = tokenizer(*texts, return_token_type_ids=True, verbose=False)
    ids, types = sample["input_ids"], sample["token_type_ids"]
    owners = sample.sequence_ids(0)
    parts: list[Part] = []
    end = 0
    for index, name in enumerate(columns):
        start = owners.index(index)
        if start > end:
            parts.append(Fixed(tuple(ids[end:start]), tuple(types[end:start])))
        parts.append(TextPart(name, types[start], spaced=index > 0 and start == end))
        end = len(owners) - owners[::-1].index(index)
    if end < len(ids):
        parts.append(Fixed(tuple(ids[end:]), tuple(types[end:])))
    return Layout(tuple(parts), **common)


def template_layout(
    tokenizer: Any,
    template: Template,
    tokenize: Any,
    *,
    ahead: bool = False,
    shown: bool = False,
    **common: Any,
) -> Layout:
    """A template inside the tokenizer's first and last special tokens; all token types are 0.

    Args:
        tokenizer: the backbone's.
        template: the template.
        tokenize: `tokenize(text, spaced)` gives the ids of the template's own words.
        ahead: `{mask}` is the token that follows the input, which ends without special tokens.
        shown: demonstrations come before the template.
        **common: the layout's other fields.

    Raises:
        ConfigError: `{mask}` with a tokenizer that has no mask token.
    """
    parts: list[Part] = [Shown()] if shown else []
    for piece in template.pieces:
        if isinstance(piece, Prompt):
            parts.append(piece)
        elif isinstance(piece, Column):
            parts.append(TextPart(piece.name, 0, piece.spaced))
        elif isinstance(piece, Literal):
            ids = tuple(tokenize(piece.text, piece.spaced))
            parts.append(Fixed(ids, (0,) * len(ids)))
        elif ahead:
            parts.append(Ahead())
        elif tokenizer.mask_token_id is None:
            raise ConfigError.at(
                template.where,
                f"{{mask}} in template {template.source!r}, but the tokenizer has no mask token",
                "name a backbone that was trained with one"
                if template.where != WHERE
                else "leave {mask} out: the head then reads the backbone's usual vector",
            )
        else:
            parts.append(MaskToken(tokenizer.mask_token_id))
    outer = tokenizer_layout(tokenizer, ["text"], **common).parts
    flat = [
        Fixed(part.ids, (0,) * len(part.ids)) if isinstance(part, Fixed) else part for part in outer
    ]
    text = next(index for index, part in enumerate(flat) if isinstance(part, TextPart))
    after = () if ahead else flat[text + 1 :]
    return Layout((*flat[:text], *parts, *after), **common)
