"""Token ids of words that are kept, since most words of a text were read before.

A tokenizer that reads every word by itself, such as BERT's, gives a text the tokens of its words.
To look words up is about ten times faster than to tokenize the text.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ptv2_cli.inputs.ragged import Ragged

MOST = 100_000
"""Words that are kept, with their tokens about 15 MB; then the table begins anew."""


class WordTable:
    """The tokens of words, each of which is tokenized once.

    Args:
        tokenize: gives the token ids of each text.
    """

    def __init__(self, tokenize: Callable[[Sequence[str]], Ragged]) -> None:
        self._tokenize = tokenize
        self._clear()

    def _clear(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict()
        # A word that is looked up and not there gets the next number.
        self._numbers.default_factory = self._numbers.__len__
        self._ids = array("i")
        self._ends = array("q", [0])

    def look_up(self, words: Iterable[str], count: int) -> Ragged:
        """The tokens of each of `count` words."""
        if len(self._numbers) > MOST:
            self._clear()
        known = len(self._numbers)
        numbers = np.fromiter(map(self._numbers.__getitem__, words), np.int64, count)
        new = len(self._numbers) - known
        if new:
            last = list(islice(reversed(self._numbers), new))[::-1]
            tokens = self._tokenize(last)
            self._ends.frombytes((tokens.starts[1:] + self._ends[-1]).tobytes())
            self._ids.frombytes(tokens.values.astype(np.int32).tobytes())
        # Copied by `take`, so that the arrays can grow again.
        return Ragged(
            np.frombuffer(self._ids, np.int32) if self._ids else np.empty(0, np.int32),
            np.frombuffer(self._ends, np.int64),
        ).take(numbers)


def reads_words_alone(backend: Any) -> bool:
    """Whether the tokens of a text are those of its parts between spaces, one after another.

    True for BERT's way alone: it cleans characters one by one, cuts at white space, and then looks
    up each word. No added token may hold a space or swallow one.
    """
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    return (
        isinstance(backend.model, WordPiece)
        and isinstance(backend.normalizer, BertNormalizer)
        and isinstance(backend.pre_tokenizer, BertPreTokenizer)
        and not any(
            " " in token.content or token.lstrip or token.rstrip
            for token in backend.get_added_tokens_decoder().values()
        )
    )
