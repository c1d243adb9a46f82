"""A text that is passed on word by word while a language model writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unicodedata import east_asian_width

from torch import Tensor


class WordStream:
    """A streamer as transformers' `generate` takes one, for a single row.

    Args:
        tokenizer: decodes the tokens.
        show: gets each new part of the text; all parts together are the text without white space
            at its ends.

    The whole text is decoded with every token, since a token may change how those before it read.
    """

    def __init__(self, tokenizer: Any, show: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
        self._show = show
        self._asked = False
        self._ids: list[int] = []
        self._shown = 0

    def put(self, ids: Tensor) -> None:
        """Take the next token; what comes first is what the model was given."""
        if self._asked:
            self._ids += ids.flatten().tolist()
            text = self._text()
            self._pass_on(text[: _whole_words(text)])
        self._asked = True

    def end(self) -> None:
        """Pass on the rest."""
        self._pass_on(self._text())

    def _text(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True)).strip()

    def _pass_on(self, text: str) -> None:
        if len(text) > self._shown:
            self._show(text[self._shown :])
            self._shown = len(text)


def _whole_words(text: str) -> int:
    """Characters of a text that no further token can change: all before its last word.

    A sign of Chinese or Japanese is a word; a character that is not whole yet reads as U+FFFD.
    """
    if text and east_asian_width(text[-1]) in "WF":
        return len(text)
    return max((at for at, sign in enumerate(text) if sign.isspace()), default=0)
