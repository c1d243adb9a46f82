"""Layouts: what surrounds the text of an input - special tokens, prompt vectors, words, a mask.

One call shows a tokenizer's own layout ([CLS] a [SEP] b [SEP]), so that no family needs a case of
its own. A template's layout begins and ends with the same special tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ptv2_cli.errors import ConfigError
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
    """One assembled input of T positions."""

    input_ids: list[int]
    token_type_ids: list[int] | None
    slots: list[int] | None
    mask_at: int | None
    starts: dict[str, int]
    """The position of each column's first token."""
    cls_at: int
    """The position that represents the whole input: [CLS], else the first text token, or the last
    token of a closed layout."""


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

    def build(self, texts: Mapping[str, Sequence[int]], shown: Sequence[int] = ()) -> Built:
        """The input with these token ids of every column and, if it shows them, demonstrations."""
        ids: list[int] = []
        types: list[int] = []
        slots: list[int] = []
        starts: dict[str, int] = {}
        mask_at: int | None = None
        for part in self.parts:
            new: Sequence[int] = ()
            match part:
                case Prompt():
                    new = [self.pad_id] * part.size
                case Fixed():
                    new = part.ids
                case TextPart():
                    starts[part.name] = len(ids)
                    new = texts[part.name]
                case Shown():
                    new = shown
                case MaskToken():
                    mask_at = len(ids)
                    new = (part.id,)
                case Ahead():
                    mask_at = max(len(ids) - 1, 0)
            ids += new
            type_id = part.type_id if isinstance(part, TextPart) else 0
            types += part.types if isinstance(part, Fixed) else [type_id] * len(new)
            slots += part.indices if isinstance(part, Prompt) else [-1] * len(new)
        prompted = any(isinstance(part, Prompt) for part in self.parts)
        return Built(
            input_ids=ids,
            token_type_ids=types if self.typed else None,
            slots=slots if prompted else None,
            mask_at=mask_at,
            starts=starts,
            cls_at=self._cls_at(ids, slots),
        )

    def _cls_at(self, ids: list[int], slots: list[int]) -> int:
        text = [position for position, slot in enumerate(slots) if slot < 0]
        if self.whole_at_end:
            return text[-1]
        cls = (position for position in text if ids[position] == self.cls_id)
        return next(cls, text[0] if text else 0)


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
