"""What a tokenizer's vocabulary holds besides special tokens."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

_UNUSED = re.compile(r"[\[<]unused_?(\d+)[\]>]")


class Vocabulary:
    """The tokens that a prompt may begin as."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def unused(self) -> list[int]:
        """Ids of the tokens kept for further use, [unused1] and so on, in their own order."""
        found = (
            (_UNUSED.fullmatch(token), at) for token, at in self._tokenizer.get_vocab().items()
        )
        return [at for _, at in sorted((int(match[1]), at) for match, at in found if match)]

    @cached_property
    def words(self) -> list[int]:
        """Ids of all other tokens that are not special."""
        away = {*self.unused, *self._tokenizer.all_special_ids}
        return sorted(set(self._tokenizer.get_vocab().values()) - away)

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text, without special tokens."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
