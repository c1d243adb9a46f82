"""Encoder: a fast tokenizer, a length limit and maybe a template, the same for all tasks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ptv2_cli.errors import BackboneError, ConfigError
from ptv2_cli.inputs.features import Truncation
from ptv2_cli.inputs.layout import Layout, template_layout, tokenizer_layout
from ptv2_cli.inputs.template import Template

UNKNOWN_LETTER = "\U00010600"
"""A letter of Linear A, which is in no vocabulary."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """The tokens of one text, and which characters [start, end) of it each stands for."""

    ids: list[int]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class Demonstration:
    """A labelled row as tokens."""

    texts: Mapping[str, str]
    """Its text columns."""
    ids: tuple[int, ...]

    def is_row(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has exactly these texts."""
        return all(row.get(name) == text for name, text in self.texts.items())


class Encoder:
    """Turns text into token ids inside the tokenizer's (or a template's) layout.

    `max_len` counts text and special tokens, and demonstrations, not the slots of prompt vectors.

    Args:
        tokenizer: the backbone's fast tokenizer.
        max_len: most tokens of an input.
        truncation: which text of a pair is cut.
        template: the order of its parts; without one the tokenizer's own layout.
        ahead: the template's `{mask}` is the token that follows the input.
        causal: the backbone's tokens see only those before them.

    Raises:
        BackboneError: the tokenizer is no fast one (offsets and batches need it).
        ConfigError: a template with {mask} and a tokenizer without a mask token.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_len: int,
        truncation: Truncation = "longest_first",
        template: Template | None = None,
        *,
        ahead: bool = False,
        causal: bool = False,
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise BackboneError.at(
                "backbone",
                f"{type(tokenizer).__name__} is no fast tokenizer: it cannot say which characters "
                "a token stands for",
                "use a checkpoint that has a tokenizer.json",
            )
        self.tokenizer = tokenizer
        self.max_len = max_len
        self.truncation = truncation
        self.template = template
        self.ahead = ahead
        self.causal = causal
        self.uncut = False
        self.demonstrations: tuple[Demonstration, ...] = ()
        self._layouts: dict[tuple[tuple[str, ...], bool], Layout] = {}
        if template is not None:
            self.layout(template.columns)

    def limited(self, max_len: int | None, truncation: Truncation) -> Encoder:
        """The same encoder with another truncation, and a limit that may be lower."""
        limit = self.max_len if max_len is None or self.uncut else min(max_len, self.max_len)
        return self._with(truncation=truncation, max_len=limit)

    def unlimited(self, max_len: int) -> Encoder:
        """The same encoder with a limit that no input reaches, whatever a task says."""
        return self._with(max_len=max_len, uncut=True)

    def showing(self, demonstrations: Sequence[Demonstration]) -> Encoder:
        """The same encoder whose inputs begin with demonstrations, as many as fit."""
        return self._with(demonstrations=tuple(demonstrations))

    def _with(self, **changed: Any) -> Encoder:
        other = copy.copy(self)
        vars(other).update(changed, _layouts={})
        return other

    def shown(self, row: Mapping[str, Any], room: int) -> tuple[list[int], int]:
        """Token ids of the demonstrations before a row, and how many did not fit.

        The first are dropped until the others fit into `room` tokens. A row is no demonstration
        of itself, which would show its answer.
        """
        others = [item for item in self.demonstrations if not item.is_row(row)]
        kept = list(others)
        while kept and sum(len(item.ids) for item in kept) > room:
            kept.pop(0)
        return [token for item in kept for token in item.ids], len(others) - len(kept)

    @cached_property
    def pad_id(self) -> int:
        """Id that fills padding and prompt slots; never attended to as text."""
        candidates = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(int(token) for token in candidates if token is not None)

    @cached_property
    def unknown_id(self) -> int:
        """Id for a word that the tokenizer drops."""
        unknown = self.tokenizer.unk_token_id
        return self.pad_id if unknown is None else int(unknown)

    @cached_property
    def unknown_token(self) -> int | None:
        """Id of the unknown token; None if no text becomes it, as in byte-level BPE."""
        unknown = self.tokenizer.unk_token_id
        return unknown if unknown in self._ids([UNKNOWN_LETTER])[0] else None

    @cached_property
    def needs_space(self) -> bool:
        """Whether a word has other tokens after a space (byte-level BPE: `Ġword`)."""
        alone = self._ids(["x", "y", "x y"])
        return alone[0] + alone[1] != alone[2]

    def layout(self, columns: Sequence[str], *, closed: bool = False) -> Layout:
        """The layout for these columns: the template's if there is one.

        Args:
            columns: the text columns.
            closed: whether a position that is no text must see the whole input. A causal model's
                input then ends with a special token, by default the end-of-text token.

        Raises:
            ConfigError: the template leaves out a column, or max_len leaves no room for text.
        """
        key = tuple(columns), closed and self.causal
        if key not in self._layouts:
            self._layouts[key] = self._make_layout(*key)
        return self._layouts[key]

    def tokenize(self, texts: Sequence[str], spaced: bool = False) -> list[list[int]]:
        """Token ids of each text without special tokens; `spaced`: as following a space."""
        lead = " " if spaced and self.needs_space else ""
        return self._ids([lead + text for text in texts]) if texts else []

    def tokenize_with_offsets(self, texts: Sequence[str], spaced: bool = False) -> list[Pieces]:
        """As `tokenize`, with each token's characters in the text as given."""
        if not texts:
            return []
        lead = " " if spaced and self.needs_space else ""
        batch = self._call([lead + text for text in texts], return_offsets_mapping=True)
        shift = len(lead)
        return [
            Pieces(ids, [(max(a - shift, 0), max(b - shift, 0)) for a, b in offsets])
            for ids, offsets in zip(batch["input_ids"], batch["offset_mapping"], strict=True)
        ]

    def tokenize_words(self, sentences: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Token ids of every word; each is tokenized by itself, as following a space.

        That is what `is_split_into_words` with `add_prefix_space` gives. A word without any token
        becomes the unknown token.
        """
        words = list(dict.fromkeys(word for sentence in sentences for word in sentence))
        ids = self.tokenize(words, spaced=True)
        known = {word: own or [self.unknown_id] for word, own in zip(words, ids, strict=True)}
        return [[known[word] for word in sentence] for sentence in sentences]

    def _make_layout(self, columns: tuple[str, ...], closed: bool) -> Layout:
        common = {
            "pad_id": self.pad_id,
            "cls_id": self.tokenizer.cls_token_id,
            "typed": "token_type_ids" in self.tokenizer.model_input_names,
        }
        if self.template is None:
            layout = tokenizer_layout(self.tokenizer, columns, **common)
        else:
            missing = [name for name in columns if name not in self.template.columns]
            if missing:
                raise ConfigError.at(
                    self.template.where,
                    f"template {self.template.source!r} leaves out {{{missing[0]}}}",
                    "a template shows " + ", ".join(f"{{{name}}}" for name in columns),
                )
            layout = template_layout(
                self.tokenizer,
                self.template,
                lambda text, spaced: self.tokenize([text], spaced)[0],
                ahead=self.ahead,
                shown=bool(self.demonstrations),
                **common,
            )
        if closed:
            end = self.tokenizer.eos_token_id
            layout = layout.closed(self.pad_id if end is None else int(end))
        if layout.overhead >= self.max_len:
            raise ConfigError.at(
                "task.max_len",
                f"{self.max_len} tokens leave no room for text: special tokens and the template's "
                f"words take {layout.overhead}",
                f"task.max_len of at least {layout.overhead + 8}",
            )
        return layout

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self._call(texts)["input_ids"]
        return ids

    def _call(self, texts: Sequence[str], **extra: Any) -> Any:
        return self.tokenizer(
            list(texts),
            add_special_tokens=False,
            padding=False,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
            **extra,
        )


def fit(lengths: Sequence[int], room: int, truncation: Truncation) -> list[int]:
    """How many tokens of each text to keep so that together they fit into `room`.

    longest_first cuts the longest text token by token. Of texts cut to equal length it cuts the
    one that was shorter at first (as the tokenizers library does). only_first and only_second cut
    only that text if the others fit, else as longest_first.
    """
    over = sum(lengths) - room
    kept = list(lengths)
    if over <= 0:
        return kept
    if truncation != "longest_first":
        target = min(("only_first", "only_second").index(truncation), len(kept) - 1)
        if kept[target] > over:
            kept[target] -= over
            return kept
    while over > 0:
        top = max(kept)
        longest = [index for index, length in enumerate(kept) if length == top]
        below = max((length for length in kept if length < top), default=0)
        step = min(top - below, -(-over // len(longest)))
        for index in sorted(longest, key=lengths.__getitem__):
            cut = min(step, over)
            kept[index] -= cut
            over -= cut
    return kept
