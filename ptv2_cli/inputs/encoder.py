"""Encoder: a fast tokenizer, a length limit and maybe a template, the same for all tasks."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ptv2_cli.errors import BackboneError, ConfigError
from ptv2_cli.inputs.chat import ChatTemplate
from ptv2_cli.inputs.features import Truncation
from ptv2_cli.inputs.layout import Layout, template_layout, tokenizer_layout
from ptv2_cli.inputs.ragged import Ragged, bounds
from ptv2_cli.inputs.template import Template
from ptv2_cli.inputs.words import WordTable, reads_words_alone

UNKNOWN_LETTER = "\U00010600"
"""A letter of Linear A, which is in no vocabulary."""


AT_ONCE = 1 << 20
"""Characters that are tokenized at once, which bounds the memory that it takes."""


@dataclass(frozen=True)
class Pieces:
    """The tokens of texts, and which characters [start, end) of its text each stands for."""

    ids: Ragged
    offsets: npt.NDArray[np.int32]
    """[N, 2]"""


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
        answer_room: most tokens of an answer that is written, its end included; 0: none is.
        chat: how messages become text, where rows hold messages.

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
        answer_room: int = 0,
        chat: ChatTemplate | None = None,
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
        self.answer_room = answer_room
        self.chat = chat
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

    def leaving_room(self) -> Encoder:
        """The same encoder, whose inputs leave room for the answer behind them.

        Raises:
            ConfigError: the answer takes all of it.
        """
        left = self.max_len - self.answer_room
        if left < 1:
            raise ConfigError.at(
                "generate.max_new_tokens",
                f"{self.answer_room} tokens leave no room for text: an input has {self.max_len}",
                "write a smaller max_new_tokens, or a larger task.max_len",
            )
        return self._with(max_len=left)

    def showing(self, demonstrations: Sequence[Demonstration]) -> Encoder:
        """The same encoder whose inputs begin with demonstrations, as many as fit."""
        return self._with(demonstrations=tuple(demonstrations))

    def _with(self, **changed: Any) -> Encoder:
        other = copy.copy(self)
        vars(other).update(changed, _layouts={})
        return other

    @property
    def identity(self) -> str:
        """Equal only for encoders that give every text the same tokens."""
        tokenizer = self.tokenizer
        backend = self._ready_backend()
        special = [
            getattr(tokenizer, f"{name}_token_id", None)
            for name in ("pad", "cls", "sep", "mask", "unk", "eos", "bos")
        ]
        return json.dumps(
            [
                type(tokenizer).__qualname__,
                tokenizer.model_input_names,
                special,
                hashlib.sha256(backend.to_str().encode("utf-8", "surrogatepass")).hexdigest(),
                bool(backend.encode_special_tokens),
                self.max_len,
                self.truncation,
                repr(self.template),
                [self.ahead, self.causal, self.uncut, self.answer_room],
                None if self.chat is None else self.chat.identity,
                [[dict(item.texts), item.ids] for item in self.demonstrations],
            ]
        )

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
    def end_id(self) -> int:
        """Id of the end-of-text token, with which an answer ends.

        Raises:
            BackboneError: the tokenizer has none.
        """
        end = self.tokenizer.eos_token_id
        if end is None:
            what = "its tokenizer has no end-of-text token, so that no answer would end"
            raise BackboneError.at("backbone", what, "name a model that writes text")
        return int(end)

    @cached_property
    def end_ids(self) -> list[int]:
        """Ids of the tokens that end an answer; an answer to learn ends with the first.

        Raises:
            BackboneError: the tokenizer has none.
        """
        turn = None if self.chat is None else self.chat.end_token
        return [self.end_id] if turn is None else list(dict.fromkeys([turn, self.end_id]))

    def tokenize_answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of answers as they follow the input, each with the token that ends it.

        In a causal model's input a space comes before them, unless the template ends a line.
        """
        ends_line = self.template is not None and self.template.ends_line
        tokens = self.tokenize(texts, spaced=self.causal and not ends_line)
        return [[*ids, self.end_ids[0]] for ids in tokens]

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
        tokens = self.tokenize_all(texts, spaced)
        return [tokens[index].tolist() for index in range(len(tokens))]

    def tokenize_all(self, texts: Sequence[str], spaced: bool = False) -> Ragged:
        """As `tokenize`, for many texts."""
        lead = self._lead(spaced)
        if self._reads_words_alone:
            words = [text.split(" ") for text in texts]
            counts = np.fromiter(map(len, words), np.int64, len(words))
            tokens = self._words.look_up(chain.from_iterable(words), int(counts.sum()))
            return tokens.regrouped(counts)
        return self._tokenized([lead + text for text in texts] if lead else texts)

    def tokenize_with_offsets(self, texts: Sequence[str], spaced: bool = False) -> Pieces:
        """As `tokenize_all`, with each token's characters in the text as given."""
        lead = self._lead(spaced)
        ids: list[npt.NDArray[np.int32]] = []
        offsets: list[npt.NDArray[np.int32]] = []
        for part in _parts(texts):
            for encoding in self._encoded([lead + text for text in part], offsets=True):
                ids.append(np.array(encoding.ids, np.int32))
                offsets.append(np.array(encoding.offsets, np.int32).reshape(-1, 2))
        if not ids:
            return Pieces(Ragged.empty_lists(0), np.empty((0, 2), np.int32))
        starts = bounds(np.array([len(own) for own in ids]))
        shifted = np.maximum(np.concatenate(offsets) - len(lead), 0)
        return Pieces(Ragged(np.concatenate(ids), starts), shifted)

    def tokenize_words(self, words: Sequence[str]) -> Ragged:
        """Token ids of every word; each is tokenized by itself, as following a space.

        That is what `is_split_into_words` with `add_prefix_space` gives. A word without any token
        becomes the unknown token.
        """
        tokens = self._spaced_words.look_up(words, len(words))
        empty = np.flatnonzero(tokens.lengths == 0)
        if not len(empty):
            return tokens
        values = np.insert(tokens.values, tokens.starts[empty], self.unknown_id)
        return Ragged(values, bounds(np.maximum(tokens.lengths, 1)))

    def _lead(self, spaced: bool) -> str:
        return " " if spaced and self.needs_space else ""

    @cached_property
    def _reads_words_alone(self) -> bool:
        return not self._own_way and reads_words_alone(self.tokenizer.backend_tokenizer)

    @cached_property
    def _words(self) -> WordTable:
        return WordTable(self._tokenized)

    @cached_property
    def _spaced_words(self) -> WordTable:
        lead = self._lead(True)
        if not lead:
            return self._words
        return WordTable(lambda words: self._tokenized([lead + word for word in words]))

    def _make_layout(self, columns: tuple[str, ...], closed: bool) -> Layout:
        common = {
            "pad_id": self.pad_id,
            "cls_id": self.tokenizer.cls_token_id,
            # A model that writes gets no token types: some tokenizers offer them to any model.
            "typed": "token_type_ids" in self.tokenizer.model_input_names and not self.answer_room,
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
        return [encoding.ids for encoding in self._encoded(texts)]

    def _tokenized(self, texts: Sequence[str]) -> Ragged:
        """Token ids of texts, some at once: those of a million would take gigabytes."""
        parts = [Ragged.of(self._ids(part)) for part in _parts(texts)]
        if len(parts) == 1:
            return parts[0]
        lengths = [part.lengths for part in parts]
        if not parts:
            return Ragged.empty_lists(0)
        values = np.concatenate([part.values for part in parts])
        return Ragged(values, bounds(np.concatenate(lengths)))

    def _encoded(self, texts: Sequence[str], *, offsets: bool = False) -> list[Any]:
        """The tokenizer's own encodings, without special tokens; its threads share the texts."""
        if self._own_way:
            options = {"padding": False, "truncation": False, "verbose": False}
            batch = self.tokenizer(list(texts), add_special_tokens=False, **options)
            return list(batch.encodings)
        backend = self._ready_backend()
        encode = backend.encode_batch if offsets else backend.encode_batch_fast
        encoded: list[Any] = encode(list(texts), add_special_tokens=False)
        return encoded

    @cached_property
    def _own_way(self) -> bool:
        """Whether the tokenizer's class changes texts before the library's tokenizer reads them."""
        from transformers import PreTrainedTokenizerFast

        own, usual = type(self.tokenizer), PreTrainedTokenizerFast
        return own.__call__ is not usual.__call__ or own._encode_plus is not usual._encode_plus

    def _ready_backend(self) -> Any:
        """The library's own tokenizer, which neither cuts nor pads here."""
        backend = self.tokenizer.backend_tokenizer
        if backend.truncation is not None:  # as the file of a tokenizer may say
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        split = bool(getattr(self.tokenizer, "split_special_tokens", False))
        if backend.encode_special_tokens != split:
            backend.encode_special_tokens = split
        return backend


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Texts in their order, each part of `AT_ONCE` characters or little more."""
    first, size = 0, 0
    for index, text in enumerate(texts):
        size += len(text)
        if size >= AT_ONCE:
            yield texts[first : index + 1]
            first, size = index + 1, 0
    if first < len(texts):
        yield texts[first:]


def fit_all(
    lengths: Sequence[npt.NDArray[np.int64]], room: int, truncation: Truncation
) -> list[npt.NDArray[np.int64]]:
    """`fit` for R inputs: how many tokens of each text [R] to keep, text by text."""
    kept = [column.copy() for column in lengths]
    for row in np.flatnonzero(np.sum(lengths, axis=0) > room).tolist():
        cut = fit([int(column[row]) for column in lengths], room, truncation)
        for column, size in zip(kept, cut, strict=True):
            column[row] = size
    return kept


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
