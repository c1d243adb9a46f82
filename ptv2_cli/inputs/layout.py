"""Frames: what surrounds the text of an input - special tokens, prompt slots, words, a mask.

A tokenizer's own layout ([CLS] a [SEP] b [SEP]) is learnt from one call of it, so that no
family needs a case of its own; a template's layout stands inside the same first and last tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.template import WHERE, Column, Literal, Prompt, Template


@dataclass(frozen=True)
class Fixed:
    """Tokens that every input has at this place, with their token types."""

    ids: tuple[int, ...]
    types: tuple[int, ...]


@dataclass(frozen=True)
class TextPart:
    """The place of a column. `spaced`: its text is tokenized as following a space."""

    name: str
    type_id: int
    spaced: bool


@dataclass(frozen=True)
class Slots:
    """`size` prompt vectors from index `first` on."""

    size: int
    first: int


@dataclass(frozen=True)
class MaskToken:
    """The tokenizer's mask token."""

    id: int


@dataclass(frozen=True)
class Ahead:
    """The place of a token that a causal model is asked for: the head reads the one before."""


@dataclass(frozen=True)
class Shown:
    """The place of demonstrations, whose tokens differ from row to row."""


Part = Fixed | TextPart | Slots | MaskToken | Ahead | Shown


@dataclass(frozen=True)
class Built:
    """One assembled input of T positions; `starts`: where each column's first token stands.

    `cls_at` is the position that stands for the whole input: [CLS], the first text token where
    there is none, or the last token of a closed layout.
    """

    input_ids: list[int]
    token_type_ids: list[int] | None
    slots: list[int] | None
    mask_at: int | None
    starts: dict[str, int]
    cls_at: int


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
        """The places of text, in input order."""
        return tuple(part for part in self.parts if isinstance(part, TextPart))

    @property
    def overhead(self) -> int:
        """Tokens that are no column's text: they count towards max_len, prompt slots do not."""
        fixed = sum(len(part.ids) for part in self.parts if isinstance(part, Fixed))
        return fixed + sum(isinstance(part, MaskToken) for part in self.parts)

    def closed(self, end_id: int) -> Layout:
        """The same layout, read at its last token: `end_id` is added if it ends in text."""
        last = self.parts[-1] if self.parts else None
        ends = isinstance(last, Fixed) and bool(last.ids)
        parts = self.parts if ends else (*self.parts, Fixed((end_id,), (0,)))
        return replace(self, parts=parts, whole_at_end=True)

    def build(self, texts: Mapping[str, Sequence[int]], shown: Sequence[int] = ()) -> Built:
        """Fill in the token ids of every column, and of demonstrations where they have a place."""
        ids: list[int] = []
        types: list[int] = []
        slots: list[int] = []
        starts: dict[str, int] = {}
        mask_at: int | None = None
        for part in self.parts:
            if isinstance(part, Slots):
                ids += [self.pad_id] * part.size
                types += [0] * part.size
                slots += range(part.first, part.first + part.size)
                continue
            if isinstance(part, Ahead):
                mask_at = max(len(ids) - 1, 0)
                continue
            if isinstance(part, Fixed):
                new: Sequence[int] = part.ids
                types += part.types
            elif isinstance(part, MaskToken):
                mask_at = len(ids)
                new = (part.id,)
                types.append(0)
            elif isinstance(part, Shown):
                new = shown
                types += [0] * len(shown)
            else:
                starts[part.name] = len(ids)
                new = texts[part.name]
                types += [part.type_id] * len(new)
            ids += new
            slots += [-1] * len(new)
        prompted = any(isinstance(part, Slots) for part in self.parts)
        return Built(
            input_ids=ids,
            token_type_ids=types if self.typed else None,
            slots=slots if prompted else None,
            mask_at=mask_at,
            starts=starts,
            cls_at=self._cls_at(ids, slots),
        )

    def _cls_at(self, ids: list[int], slots: list[int]) -> int:
        """Position of the token that stands for the whole input; see Built."""
        text = [at for at, slot in enumerate(slots) if slot < 0]
        if self.whole_at_end:
            return text[-1]
        found = (at for at in text if ids[at] == self.cls_id) if self.cls_id is not None else ()
        return next(iter(found), text[0] if text else 0)


def tokenizer_layout(tokenizer: Any, columns: Sequence[str], **common: Any) -> Layout:
    """The tokenizer's own layout for one column or a pair.

    Where a tokenizer puts nothing at all between the two texts of a pair (GPT-2), the second
    is tokenized as following a space, so that no words grow together.
    """
    texts = ["a", "b"][: len(columns)]
    sample = tokenizer(*texts, return_token_type_ids=True, verbose=False)
    ids, types = sample["input_ids"], sample["token_type_ids"]
    owners = sample.sequence_ids(0)
    parts: list[Part] = []
    at = 0
    for index, name in enumerate(columns):
        first = owners.index(index)
        last = len(owners) - owners[::-1].index(index)
        if first > at:
            parts.append(Fixed(tuple(ids[at:first]), tuple(types[at:first])))
        parts.append(TextPart(name, types[first], spaced=index > 0 and first == at))
        at = last
    if at < len(ids):
        parts.append(Fixed(tuple(ids[at:]), tuple(types[at:])))
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
        template: what stands where.
        tokenize: `tokenize(text, spaced)` gives the ids of the template's own words.
        ahead: `{mask}` is the token that follows the input, which then ends without special ones.
        shown: demonstrations stand before the template.
        **common: the layout's other fields.

    Raises:
        ConfigError: `{mask}` with a tokenizer that has no mask token.
    """
    parts: list[Part] = [Shown()] if shown else []
    for piece in template.pieces:
        if isinstance(piece, Prompt):
            parts.append(Slots(piece.size, piece.first))
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
    at = next(index for index, part in enumerate(outer) if isinstance(part, TextPart))
    after = () if ahead else outer[at + 1 :]
    return Layout((*map(_flat, outer[:at]), *parts, *map(_flat, after)), **common)


def _flat(part: Part) -> Part:
    return Fixed(part.ids, (0,) * len(part.ids)) if isinstance(part, Fixed) else part
