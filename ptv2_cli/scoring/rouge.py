"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004, ACL workshop) by the package rouge-score.

Its own tokenizer drops all but ASCII: of a Russian text nothing would be left. Here a word is a
run of letters and digits of any script, and a letter of a script without spaces is a word by
itself. The words of ASCII text are those of the package: lower case, each by its Porter stem.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from ptv2_cli.importing import uncollected
from ptv2_cli.scoring.cmrc import LETTER

with uncollected():
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

NAMES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
"""Our names -> those of rouge-score."""
_ASCII_WORD = re.compile(r"[a-z0-9]+")


class Words(Tokenizer):  # type: ignore[misc]
    """The words of a text."""

    def __init__(self) -> None:
        # The stem of a word takes longer than all else of a score.
        self._stem = lru_cache(100_000)(DefaultTokenizer(use_stemmer=True).tokenize)

    def tokenize(self, text: str) -> list[str]:
        """Lower case; ASCII words stemmed."""
        text = text.lower()
        words = _ASCII_WORD.findall(text) if text.isascii() else _words(text)
        return [part for word in words for part in (self._stem(word) if word.isascii() else [word])]


def _words(text: str) -> list[str]:
    """Runs of letters, digits and the marks on them; letters of scripts without spaces alone."""
    signs = (
        sign if sign.isalnum() or unicodedata.category(sign).startswith("M") else " "
        for sign in text
    )
    return LETTER.sub(r" \g<0> ", "".join(signs)).split()


_SCORER = RougeScorer(list(NAMES.values()), tokenizer=Words())


def rouge(text: str, references: Sequence[str]) -> list[float]:
    """F-measures in the order of NAMES, each against the reference that gives the highest."""
    found = _SCORER.score_multi(references, text)
    return [float(found[name].fmeasure) for name in NAMES.values()]
