"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004, ACL workshop), equal to those of rouge-score.

Words and stems come from that package, counts from here: its table for the longest common
subsequence takes seconds for a thousand long texts. Its tokenizer drops all but ASCII, so that of a
Russian text nothing would be left. Here a word is a run of letters and digits of any script, and a
letter of a script without spaces is a word by itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import pairwise

from ptv2_cli.importing import uncollected
from ptv2_cli.scoring.cmrc import LETTER

with uncollected():
    from rouge_score.tokenizers import DefaultTokenizer

_ASCII_WORD = re.compile(r"[a-z0-9]+")


# The stem of a word takes longer than all else of a score.
_stems = lru_cache(100_000)(DefaultTokenizer(use_stemmer=True).tokenize)


def words_of(text: str) -> list[str]:
    """The words in lower case, those of ASCII letters by their Porter stem."""
    text = text.lower()
    words = _ASCII_WORD.findall(text) if text.isascii() else _any_words(text)
    return [part for word in words for part in (_stems(word) if word.isascii() else [word])]


def _any_words(text: str) -> list[str]:
    """Runs of letters, digits and the marks on them; letters of scripts without spaces alone."""
    signs = (
        sign if sign.isalnum() or unicodedata.category(sign).startswith("M") else " "
        for sign in text
    )
    return LETTER.sub(r" \g<0> ", "".join(signs)).split()


def rouge(text: str, references: Sequence[str]) -> tuple[float, float, float]:
    """F-measures of ROUGE-1, 2 and L, each against the reference that gives the highest."""
    words = words_of(text)
    rights = [words_of(right) for right in references]
    return (
        max(_shared(words, right) for right in rights),
        max(_shared(_pairs(words), _pairs(right)) for right in rights),
        max(_f_measure(_common(words, right), len(words), len(right)) for right in rights),
    )


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(pairwise(words))


def _shared(text: Sequence[Hashable], right: Sequence[Hashable]) -> float:
    both = (Counter(text) & Counter(right)).total()
    return _f_measure(both, len(text), len(right))


def _f_measure(both: int, text: int, right: int) -> float:
    """From what a text shares with the right one, and the sizes of the two."""
    if not both:
        return 0.0
    precision, recall = both / text, both / right
    return 2 * precision * recall / (precision + recall)


def _common(text: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    Bits of one integer stand for a row of the table, 0 where the length rises (Crochemore et al.
    2001, Information Processing Letters 80).
    """
    places: dict[str, int] = {}
    for at, word in enumerate(text):
        places[word] = places.get(word, 0) | 1 << at
    everywhere = (1 << len(text)) - 1
    row = everywhere
    for word in right:
        hits = row & places.get(word, 0)
        row = (row + hits | row - hits) & everywhere
    return len(text) - row.bit_count()
